/* The YAML half of config/option.h, and the only file that knows libyaml.
 *
 * It follows the parser's events, with the key so far ("server." inside the section server) and the depth. It builds no
 * tree, so the file's size bounds the memory, and YAML_MAX_BYTES bounds the file.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/hint.h"
#include "config/option.h"

#define YAML_MAX_BYTES (1 << 20)
#define KEY_SIZE       256
#define MAX_DEPTH      8

struct reader {
    const struct option_table *table;
    void *target;
    struct arena *arena;
    struct error *err;
    const char *path;
    yaml_parser_t parser;
    unsigned *lines;         /* per option: the line of its key; 0: not seen yet */
    unsigned char *sections; /* per option: bit d is set if a section of depth d that begins with it was opened */
    char key[KEY_SIZE];      /* of the current section, with its dot: "" or "server." */
};

static bool yaml_fail(struct reader *reader, yaml_mark_t mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "<path>:<line>:<column>" of a mark. */
static void format_place(const struct reader *reader, yaml_mark_t mark, char *out, size_t size)
{
    int n = snprintf(out, size, "%s:%zu:%zu", reader->path, mark.line + 1, mark.column + 1);
    if (n < 0) out[0] = '\0';
}

static bool yaml_fail(struct reader *reader, yaml_mark_t mark, const char *format, ...)
{
    char place[300], message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    format_place(reader, mark, place, sizeof place);
    return error_set(reader->err, ERROR_INVALID, "%s: %s", place, message);
}

static bool fail_syntax(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "not YAML";
    if (parser->error == YAML_MEMORY_ERROR) return error_set_no_memory(reader->err, 0, reader->path);
    if (parser->error == YAML_READER_ERROR)
        return error_set(reader->err, ERROR_INVALID, "%s: byte %zu: %s", reader->path, parser->problem_offset, problem);
    if (strstr(problem, "cannot start any token"))
        return yaml_fail(
            reader, parser->problem_mark,
            "%s: a tab cannot indent (use spaces), and a value that begins with a sign such as @ needs quotes",
            problem);
    return yaml_fail(reader, parser->problem_mark, "%s%s%s", problem, parser->context ? " " : "",
                     parser->context ? parser->context : "");
}

static bool next_event(struct reader *reader, yaml_event_t *event)
{
    if (!yaml_parser_parse(&reader->parser, event)) return fail_syntax(reader);
    const unsigned char *anchor = NULL, *tag = NULL;
    if (event->type == YAML_ALIAS_EVENT) {
        anchor = event->data.alias.anchor;
    } else if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    }
    if (!anchor && !tag) return true;
    if (tag)
        yaml_fail(reader, event->start_mark, "the tag \"%.40s\": tags are not supported", (const char *)tag);
    else
        yaml_fail(reader, event->start_mark, "\"%.40s\": anchors and aliases are not supported", (const char *)anchor);
    yaml_event_delete(event);
    return false;
}

/* The first row whose key begins with the text, or NULL. */
static const struct option *find_section(const struct option_table *table, const char *prefix)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < table->count; i++)
        if (strncmp(table->options[i].key, prefix, n) == 0) return &table->options[i];
    return NULL;
}

static bool is_null(const yaml_event_t *scalar)
{
    const char *value = (const char *)scalar->data.scalar.value;
    if (scalar->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    return *value == '\0' || strcmp(value, "~") == 0 || strcasecmp(value, "null") == 0;
}

/* Notes the line of a key; refuses a second one. */
static bool note_line(struct reader *reader, const struct option *option, yaml_mark_t mark)
{
    char place[300];
    unsigned *line = &reader->lines[option - reader->table->options];
    if (*line > 0) return yaml_fail(reader, mark, "%s: given twice, first in line %u", reader->key, *line);
    *line = (unsigned)mark.line + 1;
    snprintf(place, sizeof place, "%s:%u", reader->path, *line);
    return option_note_origin(reader->table, option, place, false, reader->arena, reader->err);
}

static bool reader_set(struct reader *reader, const char *key, const char *value, const char *place)
{
    return options_set(reader->table, reader->target, &(struct option_assignment){key, value, place}, reader->arena,
                       reader->err);
}

/* Reads a scalar; reader->key is its key. */
static bool read_value(struct reader *reader, const yaml_event_t *scalar, yaml_mark_t mark)
{
    char place[300], section[KEY_SIZE + 1];
    const char *value = (const char *)scalar->data.scalar.value;
    const struct option *option = options_find(reader->table, reader->key);
    snprintf(section, sizeof section, "%s.", reader->key);
    const struct option *first = find_section(reader->table, section);
    if (!option && first) {
        if (is_null(scalar)) return true; /* "server:" with every key under it commented out */
        return yaml_fail(reader, scalar->start_mark, "%s: is a section, expected keys such as %s", reader->key,
                         first->key);
    }
    if (strlen(value) != scalar->data.scalar.length)
        return yaml_fail(reader, scalar->start_mark, "%s: the value holds a NUL character", reader->key);
    format_place(reader, option ? scalar->start_mark : mark, place, sizeof place);
    if (option && !note_line(reader, option, mark)) return false;
    return reader_set(reader, reader->key, is_null(scalar) ? NULL : value, place);
}

/* Reads a sequence; reader->key is its key. Each item is set like a scalar. */
static bool read_items(struct reader *reader, const struct option *option)
{
    for (;;) {
        yaml_event_t item;
        char place[300];
        if (!next_event(reader, &item)) return false;
        const bool end = item.type == YAML_SEQUENCE_END_EVENT;
        bool done = end;
        if (!end && (item.type != YAML_SCALAR_EVENT || is_null(&item))) {
            yaml_fail(reader, item.start_mark, "%s: an item must be a text", reader->key);
        } else if (!end) {
            const char *value = (const char *)item.data.scalar.value;
            format_place(reader, item.start_mark, place, sizeof place);
            done = strlen(value) == item.data.scalar.length
                       ? reader_set(reader, option->key, value, place)
                       : yaml_fail(reader, item.start_mark, "%s: the value holds a NUL character", reader->key);
        }
        yaml_event_delete(&item);
        if (end || !done) return done;
    }
}

static bool read_sequence(struct reader *reader, const yaml_event_t *start, yaml_mark_t mark)
{
    const struct option *option = options_find(reader->table, reader->key);
    char place[300];
    format_place(reader, mark, place, sizeof place);
    if (!option) /* it names the nearest key */
        return reader_set(reader, reader->key, NULL, place);
    if (option->type != OPTION_LIST && option->type != OPTION_SECRETS)
        return yaml_fail(reader, start->start_mark, "%s: is a sequence, expected a single value", reader->key);
    return note_line(reader, option, mark) && read_items(reader, option);
}

/* Reports an unknown section; its name is reader->key[0..n). */
static bool fail_section(struct reader *reader, yaml_mark_t mark, size_t n)
{
    struct hint hint;
    char section[KEY_SIZE] = "", meant[KEY_SIZE] = "";
    reader->key[n] = '\0';
    hint_begin(&hint, reader->key);
    for (size_t i = 0; i < reader->table->count; i++) {
        const char *key = reader->table->options[i].key, *dot = strrchr(key, '.');
        const char *before = hint.found;
        if (!dot) continue;
        snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
        hint.found = NULL;
        hint_try(&hint, section);
        if (hint.found) memcpy(meant, section, sizeof meant);
        hint.found = hint.found || before ? meant : NULL;
    }
    if (hint.found)
        return yaml_fail(reader, mark, "unknown section \"%.80s\", did you mean \"%s\"?", reader->key, meant);
    return yaml_fail(reader, mark, "unknown section \"%.80s\"; %s", reader->key,
                     *section ? OPTIONS_LISTED : "there are no sections here");
}

static bool read_mapping(struct reader *reader, unsigned depth);

/* Reads a mapping; reader->key is its key. */
static bool read_section(struct reader *reader, yaml_mark_t mark, unsigned depth)
{
    const struct option *option = options_find(reader->table, reader->key);
    size_t n = strlen(reader->key);
    if (option) {
        char expected[256];
        options_describe(option, expected, sizeof expected);
        return yaml_fail(reader, mark, "%s: is a mapping, expected %s", reader->key, expected);
    }
    if (depth == MAX_DEPTH) return yaml_fail(reader, mark, "nested deeper than %d levels", MAX_DEPTH);
    if (n + 1 == KEY_SIZE) return yaml_fail(reader, mark, "the key is too long");
    memcpy(reader->key + n, ".", 2);
    const struct option *first = find_section(reader->table, reader->key);
    if (!first) return fail_section(reader, mark, n);
    unsigned char *opened = &reader->sections[first - reader->table->options];
    if (*opened & 1u << depth)
        return yaml_fail(reader, mark, "the section \"%.*s\" stands here twice", (int)n, reader->key);
    *opened |= (unsigned char)(1u << depth);
    return read_mapping(reader, depth + 1);
}

static bool read_pair(struct reader *reader, const yaml_event_t *key, unsigned depth)
{
    size_t before = strlen(reader->key);
    yaml_event_t value;
    if (key->type != YAML_SCALAR_EVENT) return yaml_fail(reader, key->start_mark, "a key must be a plain name");
    const char *name = (const char *)key->data.scalar.value;
    size_t n = key->data.scalar.length;
    if (strlen(name) != n) return yaml_fail(reader, key->start_mark, "a key holds a NUL character");
    if (before + n >= KEY_SIZE) return yaml_fail(reader, key->start_mark, "unknown key \"%.80s...\"", name);
    memcpy(reader->key + before, name, n + 1);
    if (!next_event(reader, &value)) return false;
    bool done = false;
    if (value.type == YAML_SCALAR_EVENT)
        done = read_value(reader, &value, key->start_mark);
    else if (value.type == YAML_MAPPING_START_EVENT)
        done = read_section(reader, key->start_mark, depth);
    else
        done = read_sequence(reader, &value, key->start_mark);
    yaml_event_delete(&value);
    reader->key[before] = '\0';
    return done;
}

/* Reads a mapping from behind its start to its end. */
static bool read_mapping(struct reader *reader, unsigned depth)
{
    for (;;) {
        yaml_event_t key;
        if (!next_event(reader, &key)) return false;
        bool end = key.type == YAML_MAPPING_END_EVENT;
        bool done = end || read_pair(reader, &key, depth);
        yaml_event_delete(&key);
        if (end || !done) return done;
    }
}

/* Reads the document: a mapping, or nothing. */
static bool read_root(struct reader *reader, const yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT) return read_mapping(reader, 0);
    if (event->type == YAML_SCALAR_EVENT && is_null(event)) return true;
    return yaml_fail(reader, event->start_mark, "expected keys with values, such as \"%s\"",
                     reader->table->options[0].key);
}

static bool read_stream(struct reader *reader)
{
    unsigned documents = 0;
    for (;;) {
        yaml_event_t event;
        bool done = true;
        if (!next_event(reader, &event)) return false;
        bool end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            if (documents++ > 0) done = yaml_fail(reader, event.start_mark, "a second document; only one is read");
        } else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_END_EVENT && !end) {
            done = read_root(reader, &event);
        }
        yaml_event_delete(&event);
        if (end || !done) return done;
    }
}

bool options_read_yaml(const struct option_table *table, void *target, const char *path, struct arena *arena,
                       struct error *err)
{
    struct reader reader = {.table = table, .target = target, .arena = arena, .err = err, .path = path};
    char *text;
    size_t size;
    if (!file_read(path, YAML_MAX_BYTES, &text, &size, err)) return false;
    reader.lines = arena_alloc(arena, table->count, sizeof *reader.lines, "the keys of a YAML file", err);
    reader.sections = arena_alloc(arena, table->count, 1, "the keys of a YAML file", err);
    bool done = false;
    if (reader.lines && reader.sections) {
        if (yaml_parser_initialize(&reader.parser)) {
            yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
            done = read_stream(&reader);
            yaml_parser_delete(&reader.parser);
        } else {
            error_set_no_memory(err, sizeof reader.parser, path);
        }
    }
    free(text);
    return done;
}
