#include "server/models/places.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "model/files/checkpoint.h"

bool model_places_open(struct model_places *places, const struct state_dir *state, const char *path, struct error *err)
{
    *places = (struct model_places){.state = state, .path = path};
    if (path && !(places->path_name = model_directory_name(path, err))) return false;
    return !state || (places->default_file = path_join(state_dir_path(state), STATE_DEFAULT_FILE, err));
}

void model_places_close(struct model_places *places)
{
    free(places->path_name);
    free(places->default_file);
    *places = (struct model_places){0};
}

bool model_places_is_path(const struct model_places *places, const char *name)
{
    return places->path_name && strcmp(places->path_name, name) == 0;
}

char *model_places_find_in_state(const struct model_places *places, const char *name, struct error *err)
{
    struct stat info;
    if (places->state && state_name_valid(name, strlen(name))) {
        char *path = path_join(state_dir_models(places->state), name, err);
        const bool there = path && lstat(path, &info) == 0;
        if (!path || (there && S_ISDIR(info.st_mode))) return path;
        if (there && S_ISLNK(info.st_mode)) state_dir_check_entry(path, err);
        if (!there && errno != ENOENT && errno != ENOTDIR) error_set_errno(err, errno, "%s", path);
        free(path);
    }
    error_set(err, ERROR_NOT_FOUND, "there is no model \"%s\" in the state directory", name);
    return NULL;
}

char *model_places_find(const struct model_places *places, const char *name, struct error *err)
{
    struct error own = {0};
    char *path = model_places_find_in_state(places, name, &own);
    if (path && state_dir_check_entry(path, err)) return path;
    if (path) {
        free(path);
        return NULL;
    }
    if (own.code != ERROR_NOT_FOUND) {
        error_set(err, own.code, "%s", own.message);
    } else if (!model_places_is_path(places, name)) {
        error_set(err, ERROR_NOT_FOUND, "there is no model \"%s\"", name);
    } else {
        path = strdup(places->path);
        if (!path) error_set_no_memory(err, strlen(places->path), "a path");
    }
    return path;
}

static bool places_add_name(json_t *names, const char *name, struct error *err)
{
    /* nocheck: a path need not be UTF-8 */
    return json_object_set_new_nocheck(names, name, json_true()) == 0 ||
           error_set_no_memory(err, 0, "the names of models");
}

static bool places_add_state(const struct model_places *places, json_t *names, struct error *err)
{
    const char *models = state_dir_models(places->state);
    DIR *directory = opendir(models);
    if (!directory) return error_set_errno(err, errno, "%s", models);
    bool good = true;
    for (struct dirent *one; (good = good && directory_next(directory, models, &one, err)) && one;) {
        struct error own = {0};
        char *path = model_places_find_in_state(places, one->d_name, &own);
        if (path)
            good = places_add_name(names, one->d_name, err);
        else if (own.code != ERROR_NOT_FOUND && own.code != ERROR_CONFLICT) /* a link */
            good = error_set(err, own.code, "%s", own.message);
        free(path);
    }
    closedir(directory);
    return good;
}

json_t *model_places_names(const struct model_places *places, struct error *err)
{
    json_t *names = json_object();
    bool good = names || error_set_no_memory(err, 0, "the names of models");
    if (good && places->path_name) good = places_add_name(names, places->path_name, err);
    if (good && places->state) good = places_add_state(places, names, err);
    if (good) return names;
    json_decref(names);
    return NULL;
}

char *model_places_default(const struct model_places *places, struct error *err)
{
    struct error own = {0};
    char *text;
    size_t size;
    if (!places->default_file) return NULL;
    if (state_dir_check_file(places->default_file, &own) &&
        file_read(places->default_file, STATE_NAME_MAX + 1, &text, &size, &own)) {
        text[strcspn(text, "\n")] = '\0';
        return text;
    }
    if (own.code != ERROR_NOT_FOUND && err && !err->code) *err = own;
    return NULL;
}

bool model_places_set_default(const struct model_places *places, const char *name, struct error *err)
{
    return !places->default_file || (state_dir_check_file(places->default_file, err) &&
                                     file_publish(places->default_file, name, strlen(name), err));
}

/* The directory's name may also be a word or a full stop of the message: it counts as a path only if the characters
 * around it are those around a path. */
void model_places_hide(char *message, const char *directory)
{
    const size_t n = strlen(directory);
    for (char *at = message; n > 0 && (at = strstr(at, directory));) {
        const size_t cut = n + (at[n] == '/');
        const bool begins = at == message || strchr(" \"'(", at[-1]), goes_on = at[n] != '\0' && strchr("/:\"'", at[n]);
        if (*directory == '/' || (begins && goes_on))
            memmove(at, at + cut, strlen(at + cut) + 1);
        else
            at += n;
    }
}
