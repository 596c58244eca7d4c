#include "config/option.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hint.h"

#define KEY_SIZE 128 /* the longest key or variable name of a table, and its NUL */

static void *field_of(const struct option *option, void *target)
{
    return (char *)target + option->offset;
}

static bool is_bounded(const struct option *option)
{
    return option->minimum < 0 || option->maximum > 0;
}

/* "<place>: \"<value>\" is not allowed: <what is>". */
static bool option_refuse(const struct option *option, const char *value, const char *place, struct error *err)
{
    char allowed[256];
    options_describe(option, allowed, sizeof allowed);
    return error_set(err, ERROR_INVALID, "%s: \"%.80s\" is not allowed, expected %s", place, value, allowed);
}

static bool parse_bool(const char *value, bool *result)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(value, words[i]) != 0) continue;
        *result = i % 2 == 1;
        return true;
    }
    return false;
}

/* Refuses leading white space, which the C library would skip: it is more likely a mistake in quoting. */
static bool starts_number(const char *value)
{
    return isdigit((unsigned char)*value) || *value == '-' || *value == '+' || *value == '.';
}

static bool parse_int(const char *value, int64_t *result)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (!starts_number(value) || end == value || *end != '\0' || errno != 0) return false;
    *result = number;
    return true;
}

static bool parse_size(const char *value, uint64_t *result)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {{"", 1},          {"B", 1},         {"k", 1000},       {"kB", 1000},
                 {"M", 1000000},   {"MB", 1000000},  {"G", 1000000000}, {"GB", 1000000000},
                 {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},  {"TiB", 1ULL << 40}};
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)*value) || errno != 0) return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].name) == 0) return !__builtin_mul_overflow(number, units[i].factor, result);
    return false;
}

static bool parse_real(const char *value, double *result)
{
    char *end;
    double number = strtod(value, &end);
    if (!starts_number(value) || end == value || *end != '\0' || !isfinite(number)) return false;
    *result = number;
    return true;
}

static bool find_choice(const struct option *option, const char *value, int *index)
{
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) != 0) continue;
        *index = i;
        return true;
    }
    return false;
}

static bool in_bounds(const struct option *option, double number)
{
    return !is_bounded(option) || (number >= option->minimum && number <= option->maximum);
}

static bool append_item(struct option_list *list, const char *item, struct arena *arena, struct error *err)
{
    const char **items = arena_alloc(arena, list->count + 1, sizeof *items, "a list of values", err);
    if (!items) return false;
    if (list->count > 0) memcpy(items, list->items, list->count * sizeof *items);
    items[list->count] = item;
    *list = (struct option_list){items, list->count + 1};
    return true;
}

static bool set_text(const struct option *option, void *field, const char *value, const char *place,
                     struct arena *arena, struct error *err)
{
    int choice;
    if (option->choices && !find_choice(option, value, &choice)) return option_refuse(option, value, place, err);
    if (!in_bounds(option, (double)strlen(value))) return option_refuse(option, value, place, err);
    const char *copy = arena_copy_text(arena, value, strlen(value), err);
    if (!copy) return false;
    if (option->type != OPTION_TEXT) return append_item(field, copy, arena, err);
    *(const char **)field = copy;
    return true;
}

static bool set_no_value(const struct option *option, void *field, const char *place, struct error *err)
{
    if (option->type != OPTION_TEXT || option->fallback) {
        char allowed[256];
        options_describe(option, allowed, sizeof allowed);
        return error_set(err, ERROR_INVALID, "%s: has no value, expected %s", place, allowed);
    }
    *(const char **)field = NULL;
    return true;
}

bool option_set(const struct option *option, void *target, const char *value, const char *place, struct arena *arena,
                struct error *err)
{
    void *field = field_of(option, target);
    int64_t integer;
    uint64_t size;
    double real;
    if (!value) return set_no_value(option, field, place, err);
    switch (option->type) {
    case OPTION_BOOL:
        return parse_bool(value, field) || option_refuse(option, value, place, err);
    case OPTION_INT:
        if (!parse_int(value, &integer) || !in_bounds(option, (double)integer))
            return option_refuse(option, value, place, err);
        *(int64_t *)field = integer;
        return true;
    case OPTION_SIZE:
        if (!parse_size(value, &size) || !in_bounds(option, (double)size))
            return option_refuse(option, value, place, err);
        *(uint64_t *)field = size;
        return true;
    case OPTION_REAL:
        if (!parse_real(value, &real) || !in_bounds(option, real)) return option_refuse(option, value, place, err);
        *(double *)field = real;
        return true;
    case OPTION_CHOICE:
        return find_choice(option, value, field) || option_refuse(option, value, place, err);
    case OPTION_TEXT:
    case OPTION_LIST:
    case OPTION_SECRETS:
        return set_text(option, field, value, place, arena, err);
    }
    return false;
}

static void clear_field(const struct option *option, void *target)
{
    static const size_t sizes[] = {
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_INT] = sizeof(int64_t),
        [OPTION_SIZE] = sizeof(uint64_t),
        [OPTION_REAL] = sizeof(double),
        [OPTION_TEXT] = sizeof(char *),
        [OPTION_CHOICE] = sizeof(int),
        [OPTION_LIST] = sizeof(struct option_list),
        [OPTION_SECRETS] = sizeof(struct option_list),
    };
    memset(field_of(option, target), 0, sizes[option->type]);
}

bool options_set_defaults(const struct option_table *table, void *target, struct arena *arena, struct error *err)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        clear_field(option, target);
        if (option->fallback && !option_set(option, target, option->fallback, option->key, arena, err)) return false;
    }
    return true;
}

const struct option *options_find(const struct option_table *table, const char *key)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->options[i].key, key) == 0) return &table->options[i];
    return NULL;
}

const struct option *options_meant(const struct option_table *table, const char *key, const char **remark)
{
    struct hint hint;
    hint_begin(&hint, key);
    for (size_t i = 0; i < table->count; i++) hint_try(&hint, table->options[i].key);
    *remark = hint.remark;
    return hint.found ? options_find(table, hint.found) : NULL;
}

/* "unknown key ...", with the nearest key. */
static bool refuse_key(const struct option_table *table, const char *key, const char *place, struct error *err)
{
    const char *remark;
    const struct option *meant = options_meant(table, key, &remark);
    if (meant)
        return error_set(err, ERROR_INVALID, "%s: unknown key \"%.80s\", did you mean \"%s\"?", place, key, meant->key);
    return error_set(err, ERROR_INVALID, "%s: unknown key \"%.80s\"; %s", place, key, remark ? remark : OPTIONS_LISTED);
}

bool options_set(const struct option_table *table, void *target, const struct option_assignment *assignment,
                 struct arena *arena, struct error *err)
{
    const struct option *option = options_find(table, assignment->key);
    if (!option) return refuse_key(table, assignment->key, assignment->place, err);
    if (option_set(option, target, assignment->value, assignment->key, arena, err)) return true;
    return error_add_context(err, "%s", assignment->place);
}

static bool is_list(const struct option *option)
{
    return option->type == OPTION_LIST || option->type == OPTION_SECRETS;
}

/* "<first>, <second>" in the arena. */
static const char *join_places(const char *first, const char *second, struct arena *arena, struct error *err)
{
    const size_t n = strlen(first), m = strlen(second);
    char *text = arena_alloc(arena, n + m + 3, 1, "the origin of a value", err);
    if (!text) return NULL;
    memcpy(text, first, n);
    memcpy(text + n, ", ", 2);
    memcpy(text + n + 2, second, m + 1);
    return text;
}

bool option_note_origin(const struct option_table *table, const struct option *option, const char *place,
                        bool is_variable, struct arena *arena, struct error *err)
{
    if (!table->origins) return true;
    struct option_origin *origin = &table->origins[option - table->options];
    const bool joins = is_list(option) && origin->place;
    const char *text =
        joins ? join_places(origin->place, place, arena, err) : arena_copy_text(arena, place, strlen(place), err);
    if (!text) return false;
    if (!joins) *origin = (struct option_origin){.overrides = origin->place, .is_variable = is_variable};
    origin->place = text;
    return true;
}

/* Whether the option was already assigned at this place. */
static bool was_assigned(const struct option_table *table, const struct option *option, const char *place)
{
    const char *before = table->origins ? table->origins[option - table->options].place : NULL;
    return before && !is_list(option) && strcmp(before, place) == 0;
}

bool options_set_assignment(const struct option_table *table, void *target, const char *assignment, const char *place,
                            struct arena *arena, struct error *err)
{
    char key[KEY_SIZE];
    const char *equals = strchr(assignment, '=');
    if (!equals) return error_set(err, ERROR_INVALID, "%s: \"%.80s\" is not of the form key=value", place, assignment);
    int n = snprintf(key, sizeof key, "%.*s", (int)(equals - assignment < KEY_SIZE ? equals - assignment : KEY_SIZE),
                     assignment);
    if (n == 0) return error_set(err, ERROR_INVALID, "%s: \"%.80s\" has no key before the =", place, assignment);
    const struct option *option = options_find(table, key);
    if (option && was_assigned(table, option, place))
        return error_set(err, ERROR_INVALID, "%s: %s: given twice", place, key);
    return options_set(table, target, &(struct option_assignment){key, equals + 1, place}, arena, err) &&
           option_note_origin(table, option, place, false, arena, err);
}

/* server.port of a table with the prefix LSTMD is LSTMD_SERVER_PORT. */
static void variable_name(const struct option_table *table, const struct option *option, char out[KEY_SIZE])
{
    int n = snprintf(out, KEY_SIZE, "%s_%s", table->environment_prefix, option->key);
    for (int i = 0; i < n && i < KEY_SIZE - 1; i++) out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

static const struct option *find_variable(const struct option_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        char valid[KEY_SIZE];
        variable_name(table, &table->options[i], valid);
        if (strcmp(name, valid) == 0) return &table->options[i];
    }
    return NULL;
}

static bool refuse_variable(const struct option_table *table, const char *name, struct error *err)
{
    const char *remark;
    const struct option *meant = options_meant(table, name + strlen(table->environment_prefix), &remark);
    char valid[KEY_SIZE];
    if (meant) {
        variable_name(table, meant, valid);
        return error_set(err, ERROR_INVALID, "environment: unknown variable %.80s, did you mean %s?", name, valid);
    }
    return error_set(err, ERROR_INVALID, "environment: unknown variable %.80s; %s", name,
                     remark ? remark : OPTIONS_LISTED);
}

/* Docker and Kubernetes describe a service named X to its neighbours as X_SERVICE_HOST, X_SERVICE_PORT_HTTP,
 * X_PORT=tcp://10.0.0.1:80, X_PORT_80_TCP_ADDR. For a service named lstmd, such variables are not settings. */
static bool is_service_link(const char *name, const char *value)
{
    const char *port = strstr(name, "_PORT");
    if (strstr(name, "_SERVICE_HOST") || strstr(name, "_SERVICE_PORT")) return true;
    return port && (strstr(value, "://") || (port[5] == '_' && isdigit((unsigned char)port[6])));
}

static bool read_variable(const struct option_table *table, void *target, const char *name, const char *value,
                          struct arena *arena, struct error *err)
{
    const char *rest = name + strlen(table->environment_prefix);
    if (strcmp(rest, "_CONFIG") == 0 || strcmp(rest, "_SHARED") == 0) return true;
    const struct option *option = find_variable(table, name);
    if (option)
        return option_set(option, target, value, name, arena, err) &&
               option_note_origin(table, option, name, true, arena, err);
    if (is_service_link(name, value)) return true;
    return refuse_variable(table, name, err);
}

bool options_read_environment(const struct option_table *table, void *target, char *const *environment,
                              struct arena *arena, struct error *err)
{
    if (!table->environment_prefix || !environment) return true;
    size_t n = strlen(table->environment_prefix);
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (!equals || strncmp(*environment, table->environment_prefix, n) != 0 || (*environment)[n] != '_') continue;
        char *name = arena_copy_text(arena, *environment, (size_t)(equals - *environment), err);
        if (!name || !read_variable(table, target, name, equals + 1, arena, err)) return false;
    }
    return true;
}
