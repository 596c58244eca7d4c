/* POST /models/{name}/import: a model directory from what another program saved. The body goes to a file beside the
 * models. `lstmd import` reads it in a sandboxed process with bounded memory and time: no parser of foreign files runs
 * in the daemon. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/child.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "model/interop/import.h"
#include "server/api/api.h"
#include "server/api/fields.h"
#include "server/api/services.h"
#include "server/http/multipart.h"

#define MAX_SECONDS   120u                /* of the processor; twice that by the clock */
#define MIN_MEMORY    ((uint64_t)1 << 30) /* bytes; what importing takes besides the file and what becomes of it */
#define MEMORY_FACTOR 4u

enum part {
    PART_FILE,            /* the model */
    PART_VOCABULARY,      /* a vocabulary */
    PART_VOCABULARY_TEXT, /* the training text, for its vocabulary */
    PART_ARCHITECTURE,    /* the architecture, if the model is only weights */
    PART_WEIGHTS,         /* the weights, if the model has none */
    PART_COUNT,           /* their number */
};

/* Names in the form, which are those of the files too, and the flags that they are given to. */
static const struct {
    const char *name, *flag;
} parts[PART_COUNT] = {
    {"file", NULL},
    {"vocabulary", "--vocabulary"},
    {"vocabulary_from_text", "--vocabulary-from-text"},
    {"architecture", "--architecture"},
    {"weights", "--weights"},
};

struct import {
    char *path;                     /* of the model directory, from the root */
    struct directory_publish aside; /* where the parts are put; never committed */
    struct publish_file file;       /* the part that is being written */
    struct multipart *form;         /* NULL: the body is the file */
    bool begun, there[PART_COUNT];
    uint64_t size;     /* bytes that came */
    char flags[8][64]; /* what the query asks for, and limits */
    size_t flag_count;
    char *vocabulary; /* of the query; NULL: none */
};

static void import_free(void *context)
{
    struct import *import = context;
    if (!import) return;
    publish_file_close(&import->file);
    directory_publish_abort(&import->aside);
    multipart_free(import->form);
    free(import->vocabulary);
    free(import->path);
    free(import);
}

/* --- Receiving --- */

static bool begin_part(const char *name, void *context, struct error *err)
{
    struct import *import = context;
    size_t part = 0;
    while (part < PART_COUNT && strcmp(parts[part].name, name) != 0) part++;
    if (part == PART_COUNT)
        return error_set(err, ERROR_INVALID,
                         "the form has a part \"%s\"; there are file, vocabulary, "
                         "vocabulary_from_text, architecture and weights",
                         name);
    if (import->there[part]) return error_set(err, ERROR_INVALID, "the form has two parts \"%s\"", name);
    import->there[part] = true;
    publish_file_close(&import->file);
    return publish_file_open(&import->file, &import->aside, parts[part].name, err);
}

static bool write_part(const char *data, size_t size, void *context, struct error *err)
{
    struct import *import = context;
    return publish_file_write(&import->file, data, size, err);
}

/* Called with the first bytes, not before: it waits for the disk. */
static bool import_begin(struct import *import, struct error *err)
{
    if (import->begun) return true;
    if (!state_dir_check_file(import->path, err) || !directory_publish_begin(&import->aside, import->path, err))
        return false;
    import->begun = true;
    return import->form || begin_part(parts[PART_FILE].name, import, err);
}

static bool write_piece(struct http_request *request, const char *data, size_t size, void *context)
{
    struct import *import = context;
    struct problem problem = {0};
    struct error err = {0};
    import->size += size;
    if (import_begin(import, &err) &&
        (import->form ? multipart_write(import->form, data, size, &err) : write_part(data, size, import, &err)))
        return true;
    problem_set_error(&problem, &err);
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return false;
}

/* --- The query --- */

struct import_fields {
    struct field_text vocabulary;
    int vocabulary_order, token_level, activation;
    bool lower, scaled_ids;
    uint64_t window;
};

#define MEMBER(name) offsetof(struct import_fields, name)

static const char *const orders[] = {"sorted", "frequency", NULL};
static const char *const levels[] = {"auto", "char", "word", NULL};
static const char *const activations[] = {"auto", "tanh", "relu", NULL};

static const struct field rows[] = {
    {"vocabulary", FIELD_TEXT, MEMBER(vocabulary), 0, 0, NULL, 0},
    {"vocabulary_order", FIELD_CHOICE, MEMBER(vocabulary_order), 0, 0, orders, 0},
    {"token_level", FIELD_CHOICE, MEMBER(token_level), 0, 0, levels, 0},
    {"activation", FIELD_CHOICE, MEMBER(activation), 0, 0, activations, 0},
    {"lower", FIELD_BOOL, MEMBER(lower), 0, 0, NULL, 0},
    {"scaled_ids", FIELD_BOOL, MEMBER(scaled_ids), 0, 0, NULL, 0},
    {"window", FIELD_INTEGER, MEMBER(window), 0, NETWORK_MAX_WINDOW, NULL, 0},
};

static void add_flag(struct import *import, const char *flag, const char *value)
{
    (void)snprintf(import->flags[import->flag_count++], sizeof import->flags[0], "--%s=%s", flag, value);
}

static void add_number(struct import *import, const char *flag, uint64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    add_flag(import, flag, text);
}

static void read_query(struct import *import, const struct http_request *request, struct problem *problem)
{
    const struct field_table table = {rows, sizeof rows / sizeof *rows};
    struct import_fields fields = {0};
    if (!fields_read_query(&table, &fields, http_request_query(request), NULL, problem)) return;
    add_flag(import, "vocabulary-order", orders[fields.vocabulary_order]);
    add_flag(import, "token-level", levels[fields.token_level]);
    add_flag(import, "activation", activations[fields.activation]);
    add_flag(import, "lower", fields.lower ? "true" : "false");
    add_flag(import, "scaled-ids", fields.scaled_ids ? "true" : "false");
    add_number(import, "window", fields.window);
    if (!fields.vocabulary.data) return;
    import->vocabulary = strndup(fields.vocabulary.data, fields.vocabulary.size);
    if (!import->vocabulary) problem_set(problem, 503, "out of memory");
}

/* --- The two forms of a body --- */

static bool type_is(const char *type, const char *wanted)
{
    size_t n = strlen(wanted);
    return strncasecmp(type, wanted, n) == 0 && strchr(" ;", type[n]);
}

static void read_type(struct import *import, const struct http_request *request, struct problem *problem)
{
    const struct multipart_sink sink = {begin_part, write_part, import};
    const char *type = http_request_header(request, "Content-Type");
    struct error err = {0};
    if (type && type_is(type, "multipart/form-data"))
        import->form = multipart_new(type, &sink, &err);
    else if (!type || !type_is(type, "application/octet-stream"))
        problem_set(problem, 415,
                    "the body must be multipart/form-data with a part \"file\" (curl -F file=@model.h5 -F "
                    "vocabulary=@tokens.json), or the file as application/octet-stream");
    if (err.code != ERROR_NONE) problem_set_error(problem, &err);
}

static struct import *import_new(const struct services *services, const struct http_request *request,
                                 struct problem *problem)
{
    struct error err = {0};
    const char *name = http_request_parameter(request);
    struct import *import = NULL;
    char *models = NULL;
    if (state_dir_require(services->state, &err) && state_name_check(name, strlen(name), "a model's name", &err)) {
        models = realpath(state_dir_models(services->state), NULL);
        if (!models) error_set_errno(&err, errno, "%s", state_dir_models(services->state));
    }
    if (models && !(import = calloc(1, sizeof *import))) error_set_no_memory(&err, sizeof *import, "an import");
    if (import) {
        import->file.fd = -1;
        import->path = path_join(models, name, &err);
        read_query(import, request, problem);
        read_type(import, request, problem);
    }
    free(models);
    if (err.code != ERROR_NONE) problem_set_error(problem, &err);
    return import;
}

bool api_import_body(struct http_request *request, struct http_sink *sink, void *context)
{
    const struct services *services = context;
    struct problem problem = {0};
    struct import *import = import_new(services, request, &problem);
    *sink = (struct http_sink){.max_size = services->config->max_import,
                               .limit = "limits.max_import",
                               .write = write_piece,
                               .abandon = import_free,
                               .context = import};
    if (problem.status == 0) return true;
    import_free(import);
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return false;
}

/* --- Importing --- */

/* Ends the last part; a vocabulary in the query is one more file. */
static bool finish_parts(struct import *import, struct error *err)
{
    if (!import_begin(import, err) || (import->form && !multipart_finish(import->form, err))) return false;
    publish_file_close(&import->file);
    if (!import->there[PART_FILE]) return error_set(err, ERROR_INVALID, "the form has no part \"file\"");
    if (!import->vocabulary) return true;
    if (import->there[PART_VOCABULARY])
        return error_set(err, ERROR_INVALID, "there is a vocabulary in the query and one in the form");
    import->there[PART_VOCABULARY] = true;
    return directory_publish_write(&import->aside, parts[PART_VOCABULARY].name, import->vocabulary,
                                   strlen(import->vocabulary), err);
}

/* "lstmd: " and what is before it are for terminals. */
static const char *last_error(const struct child_result *result)
{
    static const char prefix[] = "lstmd: ";
    const char *found = NULL;
    for (const char *at = result->message; (at = strstr(at, prefix)); at++)
        if (at == result->message || at[-1] == '\n') found = at + sizeof prefix - 1;
    return found ? found : "no reason was given";
}

/* The file is at fault, unless the disk was full. */
static bool set_import_error(const char *reason, struct error *err)
{
    const bool full = strstr(reason, strerror(ENOSPC)) || strstr(reason, strerror(EDQUOT));
    return error_set(err, full ? ERROR_NO_SPACE : ERROR_INVALID, "%.*s", (int)strcspn(reason, "\n"), reason);
}

/* Logs what the import says of its sandbox: that concerns the operator, not the client. */
static void note_lacking(const struct services *services, const char *message)
{
    const char *found = strstr(message, SANDBOX_LACKING);
    char line[256];
    if (!found) return;
    (void)snprintf(line, sizeof line, "%.*s", (int)strcspn(found, "\n"), found);
    log_event(LOG_WARNING, "a file was imported", LOG_TEXT("note", line));
    metrics_add(services->metrics, METRICS_IMPORTS_UNSANDBOXED, 1);
}

/* The path of the model, relative to the directory in which the import runs. The client reads the import's messages,
 * and they must not tell where models lie on this machine. NULL: out of memory. */
static char *relative_out(const struct import *import, struct error *err)
{
    return path_join("..", strrchr(import->aside.path, '/') + 1, err);
}

static bool run_to(struct import *import, const char *out, const struct services *services, struct error *err)
{
    const char *arguments[32] = {"import", parts[PART_FILE].name, "--out", out};
    size_t n = 4;
    add_number(import, "max-seconds", MAX_SECONDS);
    add_number(import, "max-memory", MIN_MEMORY + MEMORY_FACTOR * import->size);
    for (size_t i = 0; i < import->flag_count; i++) arguments[n++] = import->flags[i];
    for (size_t i = 0; i < PART_COUNT; i++)
        if (import->there[i] && parts[i].flag) {
            arguments[n++] = parts[i].flag;
            arguments[n++] = parts[i].name;
        }
    const struct child_options options = {arguments, import->aside.aside, 2.0 * MAX_SECONDS, &services->closing};
    struct child_result result;
    if (!child_run(&options, &result, err)) return false;
    note_lacking(services, result.message);
    if (result.exit_code == 0) return true;
    if (result.exit_code < 0)
        return error_set(err, ERROR_INVALID, "importing took more than its time or memory; nothing was changed");
    return set_import_error(last_error(&result), err);
}

static bool import_run(struct import *import, const struct services *services, struct error *err)
{
    char *out = relative_out(import, err);
    const bool ok = out && run_to(import, out, services, err);
    free(out);
    return ok;
}

/* The model was published. If it is not found, somebody has deleted it since. */
static json_t *import_load(const struct services *services, const char *name, struct error *err)
{
    json_t *json =
        registry_load(services->registry, name, err) ? registry_describe(services->registry, name, err) : NULL;
    if (!json && err->code == ERROR_NOT_FOUND) {
        *err = (struct error){0};
        error_set(err, ERROR_CONFLICT, "the model \"%s\" was deleted when it had been imported", name);
    }
    return json;
}

enum http_outcome api_model_import(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct import *import = http_request_sink(request);
    const char *name = http_request_parameter(request);
    struct problem problem = {0};
    struct error err = {0};
    bool replaced = access(import->path, F_OK) == 0;
    json_t *json = NULL;
    if (finish_parts(import, &err) && import_run(import, services, &err)) json = import_load(services, name, &err);
    import_free(import);
    if (json) {
        log_event(LOG_INFO, "model imported", LOG_TEXT("id", http_request_id(request)), LOG_TEXT("name", name));
        http_reply_json(request, replaced ? 200 : 201, json);
    } else {
        problem_set_error(&problem, &err);
        http_reply_problem(request, &problem);
        problem_close(&problem);
    }
    return HTTP_REPLIED;
}
