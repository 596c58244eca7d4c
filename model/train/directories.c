#include "model/train/directories.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

bool training_directories_name(const char *out, char **model, char **work, struct error *err)
{
    size_t n = strlen(out);
    while (n > 0 && out[n - 1] == '/') n--;
    const char *slash = memrchr(out, '/', n);
    const char *last = slash ? slash + 1 : out;
    size_t length = n - (size_t)(last - out);
    if (n == 0 || (length == 1 && last[0] == '.') || (length == 2 && memcmp(last, "..", 2) == 0))
        return error_set(err, ERROR_INVALID, "out is \"%s\": it must name a directory for the model", out);
    if (asprintf(model, "%.*s", (int)n, out) < 0) *model = NULL;
    if (asprintf(work, "%.*s.train", (int)n, out) < 0) *work = NULL;
    return (*model && *work) || error_set_no_memory(err, n, "a path");
}

const char *training_directories_parent(const char *path, struct arena *arena, struct error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    return arena_copy_text(arena, path, slash == path ? 1 : (size_t)(slash - path), err);
}

static bool is_model_file(const char *name)
{
    static const char *const names[] = {".", "..", "config.json", "vocabulary.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return false;
}

static bool check_replaceable(const char *model, struct error *err)
{
    DIR *directory = opendir(model);
    if (!directory) return errno == ENOENT || error_set_errno(err, errno, "%s", model);
    bool ok = true;
    for (struct dirent *entry; (ok = ok && directory_next(directory, model, &entry, err)) && entry;) {
        if (!is_model_file(entry->d_name))
            ok =
                error_set(err, ERROR_CONFLICT, "%s holds \"%s\", which is no part of a model: choose another directory",
                          model, entry->d_name);
    }
    closedir(directory);
    return ok;
}

static bool check_writable(const char *model, struct error *err)
{
    struct directory_publish publish;
    if (!directory_publish_begin(&publish, model, err)) return false;
    directory_publish_abort(&publish);
    return true;
}

bool training_directories_check(const char *model, struct error *err)
{
    return check_replaceable(model, err) && check_writable(model, err);
}
