#include "server/store/datasets.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "server/store/datasets_internal.h"
#include "server/store/state_dir.h"

#define MAX_DESCRIPTION ((size_t)1 << 20)

struct dataset_entry {
    struct stored_dataset dataset; /* first member: callers get a pointer to it */
    struct arena arena;            /* owns the dataset's texts */
    json_t *description;           /* NULL: the name is reserved and has no dataset yet */
    unsigned users;
    bool changing; /* reserved */
    struct dataset_entry *next;
};

struct datasets {
    const char *directory;
    pthread_mutex_t lock;          /* guards everything below; never held across I/O */
    struct dataset_entry *entries; /* by name */
    bool frozen;
};

char *datasets_path(const struct datasets *datasets, const char *name, struct error *err)
{
    return path_join(datasets->directory, name, err);
}

/* ---- One dataset ---- */

void dataset_entry_free(struct dataset_entry *entry)
{
    if (!entry) return;
    json_decref(entry->description);
    arena_free(&entry->arena);
    free(entry);
}

/* An entry with only a name. */
static struct dataset_entry *dataset_entry_new_name(const char *name, struct error *err)
{
    struct dataset_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        error_set_no_memory(err, sizeof *entry, "a dataset");
        return NULL;
    }
    entry->dataset.name = arena_copy_text(&entry->arena, name, strlen(name), err);
    if (entry->dataset.name) return entry;
    dataset_entry_free(entry);
    return NULL;
}

/* Reads the members of a dataset from its description; the description keeps the texts. */
static bool dataset_entry_parse(struct dataset_entry *entry, struct error *err)
{
    struct stored_dataset *dataset = &entry->dataset;
    struct corpus_options *corpus = &dataset->corpus;
    const char *format = "", *sha256 = "";
    json_int_t size = 0, characters = 0, documents = 0;
    const char *header = NULL;
    int bytes = 0;
    json_error_t cause;
    if (json_unpack_ex(entry->description, &cause, 0, "{s:I, s:I, s:I, s:s, s:s, s:b, s?s, s?s, s?s, s?s}", "size",
                       &size, "characters", &characters, "documents", &documents, "sha256", &sha256, "format", &format,
                       "bytes", &bytes, "csv_header", &header, "columns", &corpus->columns, "label_column",
                       &corpus->label_column, "field", &corpus->field) != 0)
        return json_text_lacked_memory(&cause) ? error_set_no_memory(err, 0, "a dataset")
                                               : error_set(err, ERROR_CORRUPT, "%s", cause.text);
    if (!corpus_format_parse(format, &corpus->format) || corpus->format == CORPUS_AUTO || strlen(sha256) != 64 ||
        size < 0 || characters < 0 || documents < 0)
        return error_set(err, ERROR_CORRUPT, "a value is out of range");
    corpus->bytes = bytes != 0;
    corpus->csv_header = header ? strcmp(header, "yes") == 0 : -1;
    dataset->size = (uint64_t)size;
    dataset->characters = (uint64_t)characters;
    dataset->documents = (uint64_t)documents;
    memcpy(dataset->sha256, sha256, sizeof dataset->sha256);
    return true;
}

static bool dataset_entry_set_path(struct dataset_entry *entry, const struct datasets *datasets, struct error *err)
{
    char *directory = datasets_path(datasets, entry->dataset.name, err);
    char *path = directory ? path_join(directory, DATASET_DATA, err) : NULL;
    if (path) entry->dataset.path = arena_copy_text(&entry->arena, path, strlen(path), err);
    free(path);
    free(directory);
    return entry->dataset.path;
}

struct dataset_entry *dataset_entry_new(const struct datasets *datasets, const char *name, json_t *description,
                                        struct error *err)
{
    struct dataset_entry *entry = dataset_entry_new_name(name, err);
    if (entry)
        entry->description = description;
    else
        json_decref(description);
    if (entry && dataset_entry_set_path(entry, datasets, err) && dataset_entry_parse(entry, err)) return entry;
    dataset_entry_free(entry);
    return NULL;
}

static json_t *dataset_read_description(const struct datasets *datasets, const char *name, struct error *err)
{
    char *directory = datasets_path(datasets, name, err), *text = NULL;
    char *path = directory ? path_join(directory, DATASET_DESCRIPTION, err) : NULL;
    size_t size;
    json_t *json = NULL;
    json_error_t cause;
    if (path && file_read(path, MAX_DESCRIPTION, &text, &size, err)) {
        json = json_text_parse(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &cause);
        if (!json && json_text_lacked_memory(&cause))
            error_set_no_memory(err, size, "a description");
        else if (!json)
            error_set(err, ERROR_CORRUPT, "%s:%d: %s", path, cause.line, cause.text);
    }
    free(text);
    free(path);
    free(directory);
    return json;
}

static bool dataset_entry_check_data(const struct dataset_entry *entry, struct error *err)
{
    struct stat info;
    if (stat(entry->dataset.path, &info) != 0) return error_set_errno(err, errno, "%s", entry->dataset.path);
    return (S_ISREG(info.st_mode) && (uint64_t)info.st_size == entry->dataset.size) ||
           error_set(err, ERROR_CORRUPT, "%s: has %lld bytes, and its description says %llu", entry->dataset.path,
                     (long long)info.st_size, (unsigned long long)entry->dataset.size);
}

/* Reads the dataset of this name from the directory. */
static struct dataset_entry *dataset_entry_read(const struct datasets *datasets, const char *name, struct error *err)
{
    char *path = datasets_path(datasets, name, err);
    json_t *description =
        path && state_dir_check_entry(path, err) ? dataset_read_description(datasets, name, err) : NULL;
    free(path);
    struct dataset_entry *entry = description ? dataset_entry_new(datasets, name, description, err) : NULL;
    if (entry && dataset_entry_check_data(entry, err)) return entry;
    dataset_entry_free(entry);
    return NULL;
}

/* ---- The list; under the lock ---- */

/* The link to the entry of this name, or the place for it. */
static struct dataset_entry **datasets_place_of(struct datasets *datasets, const char *name)
{
    struct dataset_entry **place = &datasets->entries;
    while (*place && strcmp((*place)->dataset.name, name) < 0) place = &(*place)->next;
    return place;
}

static struct dataset_entry *datasets_find(struct datasets *datasets, const char *name)
{
    struct dataset_entry *entry = *datasets_place_of(datasets, name);
    return entry && strcmp(entry->dataset.name, name) == 0 ? entry : NULL;
}

static struct dataset_entry *datasets_find_described(struct datasets *datasets, const char *name, struct error *err)
{
    struct dataset_entry *entry = datasets_find(datasets, name);
    if (entry && entry->description) return entry;
    error_set(err, ERROR_NOT_FOUND, "there is no dataset \"%.64s\"", name);
    return NULL;
}

static void datasets_insert(struct datasets *datasets, struct dataset_entry *entry)
{
    struct dataset_entry **place = datasets_place_of(datasets, entry->dataset.name);
    entry->next = *place;
    *place = entry;
}

static struct dataset_entry *datasets_take_out(struct datasets *datasets, const char *name)
{
    struct dataset_entry *entry = datasets_find(datasets, name);
    if (entry) *datasets_place_of(datasets, name) = entry->next;
    return entry;
}

static bool dataset_entry_check(const struct datasets *datasets, const struct dataset_entry *entry, struct error *err)
{
    if (!entry) return true;
    if (datasets->frozen)
        return error_set(
            err, ERROR_NO_SPACE,
            "the dataset \"%s\" may be in use: which jobs there are is not known before there is room on the "
            "disk",
            entry->dataset.name);
    if (entry->changing)
        return error_set(err, ERROR_CONFLICT, "the dataset \"%s\" is just being replaced or deleted",
                         entry->dataset.name);
    return entry->users == 0 || error_set(err, ERROR_CONFLICT, "the dataset \"%s\" is in use by %u training job%s",
                                          entry->dataset.name, entry->users, entry->users == 1 ? "" : "s");
}

/* ---- Life ---- */

static bool datasets_read_all(struct datasets *datasets, struct error *err)
{
    DIR *directory = opendir(datasets->directory);
    if (!directory) return error_set_errno(err, errno, "%s", datasets->directory);
    bool done = true;
    for (struct dirent *item; (done = done && directory_next(directory, datasets->directory, &item, err)) && item;) {
        struct error cause = {0};
        if (!state_name_valid(item->d_name, strlen(item->d_name))) continue;
        struct dataset_entry *entry = dataset_entry_read(datasets, item->d_name, &cause);
        if (entry)
            datasets_insert(datasets, entry);
        else if (cause.code == ERROR_NO_MEMORY)
            done = error_set(err, cause.code, "%s", cause.message);
        else
            log_event(LOG_WARNING, "dataset left out", LOG_TEXT("name", item->d_name),
                      LOG_TEXT("error", cause.message));
    }
    closedir(directory);
    return done;
}

struct datasets *datasets_new(const char *directory, struct error *err)
{
    struct datasets *datasets = calloc(1, sizeof *datasets);
    if (!datasets) {
        error_set_no_memory(err, sizeof *datasets, "datasets");
        return NULL;
    }
    datasets->directory = directory;
    pthread_mutex_init(&datasets->lock, NULL);
    if (datasets_read_all(datasets, err)) return datasets;
    datasets_free(datasets);
    return NULL;
}

void datasets_free(struct datasets *datasets)
{
    if (!datasets) return;
    while (datasets->entries) {
        struct dataset_entry *entry = datasets->entries;
        datasets->entries = entry->next;
        dataset_entry_free(entry);
    }
    pthread_mutex_destroy(&datasets->lock);
    free(datasets);
}

/* ---- Holding and changing ---- */

const struct stored_dataset *datasets_acquire(struct datasets *datasets, const char *name, struct error *err)
{
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *entry = datasets_find_described(datasets, name, err);
    if (entry && entry->changing) {
        dataset_entry_check(datasets, entry, err);
        entry = NULL;
    }
    if (entry) entry->users++;
    pthread_mutex_unlock(&datasets->lock);
    return entry ? &entry->dataset : NULL;
}

void datasets_freeze(struct datasets *datasets, bool frozen)
{
    pthread_mutex_lock(&datasets->lock);
    datasets->frozen = frozen;
    pthread_mutex_unlock(&datasets->lock);
}

void datasets_release(struct datasets *datasets, const struct stored_dataset *dataset)
{
    pthread_mutex_lock(&datasets->lock);
    datasets_find(datasets, dataset->name)->users--;
    pthread_mutex_unlock(&datasets->lock);
}

bool datasets_check_free(struct datasets *datasets, const char *name, struct error *err)
{
    pthread_mutex_lock(&datasets->lock);
    const bool free_now = dataset_entry_check(datasets, datasets_find(datasets, name), err);
    pthread_mutex_unlock(&datasets->lock);
    return free_now;
}

bool datasets_reserve(struct datasets *datasets, const char *name, bool *existed, struct error *err)
{
    struct dataset_entry *fresh = dataset_entry_new_name(name, err);
    if (!fresh) return false;
    fresh->changing = true;
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *entry = datasets_find(datasets, name);
    const bool done = dataset_entry_check(datasets, entry, err);
    *existed = entry;
    if (done && entry) {
        entry->changing = true;
    } else if (done) {
        datasets_insert(datasets, fresh);
        fresh = NULL;
    }
    pthread_mutex_unlock(&datasets->lock);
    dataset_entry_free(fresh);
    return done;
}

void datasets_settle(struct datasets *datasets, const char *name, struct dataset_entry *entry)
{
    struct error err = {0};
    if (!entry) entry = dataset_entry_read(datasets, name, &err);
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *old = datasets_take_out(datasets, name);
    assert(old);                                                     /* reserved */
    if (!entry && old->description && err.code != ERROR_NOT_FOUND) { /* the old dataset may still exist */
        entry = old;
        old = NULL;
    }
    if (entry) {
        entry->changing = false;
        datasets_insert(datasets, entry);
    }
    pthread_mutex_unlock(&datasets->lock);
    dataset_entry_free(old);
}

static void datasets_forget(struct datasets *datasets, const char *name)
{
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *entry = datasets_take_out(datasets, name);
    pthread_mutex_unlock(&datasets->lock);
    dataset_entry_free(entry);
}

bool datasets_delete(struct datasets *datasets, const char *name, struct error *err)
{
    bool existed;
    char *path = datasets_path(datasets, name, err);
    if (!path) return false;
    if (!datasets_reserve(datasets, name, &existed, err)) {
        free(path);
        return false;
    }
    const bool done =
        existed ? directory_remove(path, err) : error_set(err, ERROR_NOT_FOUND, "there is no dataset \"%.64s\"", name);
    if (done || !existed)
        datasets_forget(datasets, name);
    else
        datasets_settle(datasets, name, NULL);
    free(path);
    return done;
}

/* ---- Describing ---- */

static json_t *dataset_entry_describe(const struct dataset_entry *entry)
{
    json_t *copy = json_deep_copy(entry->description);
    if (copy && json_object_set_new(copy, "users", json_integer(entry->users)) == 0) return copy;
    json_decref(copy);
    return NULL;
}

json_t *datasets_describe(struct datasets *datasets, const char *name, struct error *err)
{
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *entry = datasets_find_described(datasets, name, err);
    json_t *json = entry ? dataset_entry_describe(entry) : NULL;
    pthread_mutex_unlock(&datasets->lock);
    if (entry && !json) error_set_no_memory(err, 0, "a description");
    return json;
}

json_t *datasets_next(struct datasets *datasets, const char *after, struct error *err)
{
    json_t *json = NULL;
    pthread_mutex_lock(&datasets->lock);
    struct dataset_entry *entry = datasets->entries;
    while (entry && (!entry->description || strcmp(entry->dataset.name, after) <= 0)) entry = entry->next;
    if (entry) json = dataset_entry_describe(entry);
    pthread_mutex_unlock(&datasets->lock);
    if (entry && !json) error_set_no_memory(err, 0, "a description");
    json_object_del(json, "alphabet");
    return json;
}
