#include "cli/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FLAG_SIZE 128 /* the longest flag of a table, and its NUL */

struct parse {
    const struct command_line *line;
    void *target;
    struct arena *arena;
    struct error *err;
    const char *const *operand; /* the next one to fill */
    bool *given;                /* per option: it was given */
};

static void flag_name(const struct option *option, char out[FLAG_SIZE])
{
    snprintf(out, FLAG_SIZE, "--%s", option->key);
    for (char *c = out + 2; *c; c++)
        if (*c == '_' || *c == '.') *c = '-';
}

/* The row of the flag name[0..n). `negated` is set for "--no-..." of a bool. */
static const struct option *find_flag(const struct option_table *table, const char *name, size_t n, bool *negated)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        char flag[FLAG_SIZE];
        flag_name(option, flag);
        size_t m = strlen(flag);
        *negated = false;
        if (m == n && memcmp(flag, name, n) == 0) return option;
        *negated = option->type == OPTION_BOOL;
        if (*negated && m + 3 == n && memcmp(name, "--no-", 5) == 0 && memcmp(name + 5, flag + 2, n - 5) == 0)
            return option;
    }
    *negated = false;
    return NULL;
}

static bool unknown_flag(const struct parse *parse, const char *name, size_t n)
{
    char typed[FLAG_SIZE], flag[FLAG_SIZE];
    snprintf(typed, sizeof typed, "%.*s", (int)(n < 80 ? n : 80), name);
    const char *remark;
    const struct option *meant = options_meant(&parse->line->table, typed, &remark);
    if (meant) {
        flag_name(meant, flag);
        return error_set(parse->err, ERROR_USAGE, "unknown flag \"%s\", did you mean %s?", typed, flag);
    }
    const char *other;
    const struct option *setting = parse->line->reference ? options_meant(parse->line->reference, typed, &other) : NULL;
    if (setting && !remark)
        return error_set(parse->err, ERROR_USAGE, "unknown flag \"%s\", did you mean --set %s=VALUE?", typed,
                         setting->key);
    return error_set(parse->err, ERROR_USAGE, "unknown flag \"%s\"; %s", typed, remark ? remark : OPTIONS_LISTED);
}

/* Refuses a second value: otherwise the first would be ignored without a word. */
static bool note_given(struct parse *parse, const struct option *option, const char *place)
{
    bool *given = &parse->given[option - parse->line->table.options];
    if (*given && option->type != OPTION_LIST)
        return error_set(parse->err, ERROR_USAGE, "%s: given twice, and takes one value", place);
    *given = true;
    return true;
}

/* Sets a value; any error of the table becomes ERROR_USAGE. */
static bool set_value(struct parse *parse, const struct option *option, const char *value, const char *place)
{
    struct error cause = {0};
    if (!note_given(parse, option, place)) return false;
    if (option_set(option, parse->target, value, place, parse->arena, &cause)) return true;
    return error_set(parse->err, cause.code == ERROR_INVALID ? ERROR_USAGE : cause.code, "%s", cause.message);
}

static bool refuse_missing(const struct parse *parse, const struct option *option, const char *flag)
{
    char expected[256];
    options_describe(option, expected, sizeof expected);
    return error_set(parse->err, ERROR_USAGE, "%s: has no value, expected %s", flag, expected);
}

/* Reads the flag argv[*at], and its value if that is the next argument. */
static bool read_flag(struct parse *parse, int argc, char **argv, int *at)
{
    const char *argument = argv[*at], *equals = strchr(argument, '=');
    size_t n = equals ? (size_t)(equals - argument) : strlen(argument);
    bool negated;
    const struct option *option = find_flag(&parse->line->table, argument, n, &negated);
    if (!option) return unknown_flag(parse, argument, n);
    char flag[FLAG_SIZE];
    flag_name(option, flag);
    if (negated && equals) return error_set(parse->err, ERROR_USAGE, "--no-%s: takes no value", flag + 2);
    if (equals) return set_value(parse, option, equals + 1, flag);
    if (option->type == OPTION_BOOL) return set_value(parse, option, negated ? "false" : "true", flag);
    if (*at + 1 == argc) return refuse_missing(parse, option, flag);
    return set_value(parse, option, argv[++*at], flag);
}

static bool read_operand(struct parse *parse, const char *value)
{
    const bool extra = !parse->operand || !*parse->operand;
    if (extra && !parse->operand && options_find(&parse->line->table, "model"))
        return error_set(parse->err, ERROR_USAGE,
                         "unexpected argument \"%.80s\"; a model is named by --model DIR; usage: %s", value,
                         parse->line->usage);
    if (extra)
        return error_set(parse->err, ERROR_USAGE, "unexpected argument \"%.80s\"; usage: %s", value,
                         parse->line->usage);
    const struct option *option = options_find(&parse->line->table, *parse->operand);
    if (option->type != OPTION_LIST) parse->operand++;
    return set_value(parse, option, value, option->key);
}

static bool read_all(struct parse *parse, int argc, char **argv)
{
    bool flags = true;
    memset(parse->given, 0, parse->line->table.count);
    for (int at = 1; at < argc; at++) {
        bool done;
        if (flags && strcmp(argv[at], "--") == 0) {
            flags = false;
            continue;
        }
        if (flags && argv[at][0] == '-' && argv[at][1] != '\0')
            done = read_flag(parse, argc, argv, &at);
        else
            done = read_operand(parse, argv[at]);
        if (!done) return false;
    }
    return true;
}

static bool wants_help(int argc, char **argv)
{
    for (int at = 1; at < argc && strcmp(argv[at], "--") != 0; at++)
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) return true;
    return false;
}

static bool is_given(const struct option *option, const void *target)
{
    const void *field = (const char *)target + option->offset;
    if (option->type == OPTION_LIST) return ((const struct option_list *)field)->count > 0;
    return *(const char *const *)field;
}

static bool check_required(const struct parse *parse)
{
    for (const char *const *key = parse->line->required; key && *key; key++) {
        const struct option *option = options_find(&parse->line->table, *key);
        char flag[FLAG_SIZE];
        flag_name(option, flag);
        if (!is_given(option, parse->target))
            return error_set(parse->err, ERROR_USAGE, "%s is missing; usage: %s", flag, parse->line->usage);
    }
    return true;
}

/* Reads the flags twice: first to learn the file's name, then after the file, because flags win over it. */
static bool read_file_then_flags(struct parse *parse, int argc, char **argv)
{
    const struct command_line *line = parse->line;
    const struct option *option = options_find(&line->table, line->file_key);
    const char *path = *(const char *const *)((const char *)parse->target + option->offset);
    if (!path) return true;
    if (!options_set_defaults(&line->table, parse->target, parse->arena, parse->err)) return false;
    if (!options_read_yaml(&line->table, parse->target, path, parse->arena, parse->err)) return false;
    parse->operand = line->operands;
    return read_all(parse, argc, argv);
}

static void print_flags(const struct option_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        char flag[FLAG_SIZE], expected[256];
        flag_name(option, flag);
        options_describe(option, expected, sizeof expected);
        printf("  %-24s %s\n", flag, option->help);
        if (option->type == OPTION_BOOL) continue;
        printf("  %-24s (%s%s%s)\n", "", expected, option->fallback ? "; default " : "",
               option->fallback ? option->fallback : "");
    }
}

static void print_help(const struct command_line *line)
{
    printf("Usage: %s\n\n", line->usage);
    if (line->description) printf("%s\n\n", line->description);
    puts("Flags:");
    print_flags(&line->table);
    printf("  %-24s %s\n", "--help", "Prints this.");
    if (!line->reference) return;
    puts("\nKeys:");
    options_print_help(line->reference, stdout);
}

bool arguments_read(const struct arguments *arguments, void *target, struct arena *arena, bool *help, struct error *err)
{
    const struct command_line *line = arguments->line;
    /* cppcheck-suppress ctuuninitvar ; the target is what is filled */
    struct parse parse = {line, target, arena, err, line->operands, NULL};
    *help = wants_help(arguments->argc, arguments->argv);
    if (*help) {
        print_help(line);
        return true;
    }
    parse.given = arena_alloc(arena, line->table.count, sizeof *parse.given, "the flags that were given", err);
    if (!parse.given || !options_set_defaults(&line->table, target, arena, err)) return false;
    if (!read_all(&parse, arguments->argc, arguments->argv)) return false;
    if (line->file_key && !read_file_then_flags(&parse, arguments->argc, arguments->argv)) return false;
    return check_required(&parse);
}

int command_fail(const struct error *err)
{
    fprintf(stderr, "lstmd: %s\n", err->message);
    return err->code == ERROR_USAGE ? 2 : 1;
}

bool command_note_replaced(const char *path, bool replaces)
{
    if (replaces) fprintf(stderr, "note: the model that was at %s is replaced\n", path);
    return true;
}

void command_make_parent(const char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    char *parent = n > 0 ? strndup(path, n) : NULL;
    if (parent) mkdir(parent, 0777);
    free(parent);
}

bool arguments_parse(const struct command_line *line, int argc, char **argv, void *target, struct arena *arena,
                     int *exit_code)
{
    struct error err = {0};
    bool help;
    *exit_code = 0;
    if (arguments_read(&(struct arguments){line, argc, argv}, target, arena, &help, &err)) return !help;
    *exit_code = command_fail(&err);
    return false;
}
