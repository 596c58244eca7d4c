#include "model/interop/python.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define MAX_DEPTH  8          /* levels of lists and dictionaries in others */
#define MAX_VALUES (1u << 22) /* values to write at most; a shared one counts each time */

struct conversion {
    const char *place;
    uint32_t left; /* values left to write */
    struct error *err;
};

const struct pickle_list *python_entries(const struct pickle_value *value)
{
    static const struct pickle_list none = {0};
    if (value->kind == PICKLE_DICT) return &value->entries;
    if (value->kind != PICKLE_OBJECT) return &none;
    if (value->entries.count > 0 || !value->state || value->state->kind != PICKLE_DICT) return &value->entries;
    return &value->state->entries;
}

bool python_recognise_pickle(const void *data, size_t size)
{
    /* First bytes of protocols 0 and 1, which do not name their number. */
    static const char *const starts[] = {"(dp", "(lp", "}q", "]q", "ccopy_reg\n", "ccollections\n"};
    const unsigned char *bytes = data;
    if (size < 4 || bytes[size - 1] != '.') return false;
    if (bytes[0] == 0x80) return bytes[1] >= 2 && bytes[1] <= 5;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (size > strlen(starts[i]) && memcmp(data, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

/* ---- single values ---- */

static json_t *refuse_value(struct conversion *conversion, enum error_code code, const char *why)
{
    error_set(conversion->err, code, "%s: the pickle %s", conversion->place, why);
    return NULL;
}

static json_t *check_made(struct conversion *conversion, json_t *json)
{
    return json ? json : refuse_value(conversion, ERROR_NO_MEMORY, "is too large for the memory that there is");
}

static json_t *convert_text(struct conversion *conversion, const struct pickle_value *value)
{
    if (utf8_valid_prefix(value->text, value->length) < value->length)
        return refuse_value(conversion, ERROR_INVALID, "has a text that is not UTF-8");
    return check_made(conversion, json_stringn(value->text, value->length));
}

/* Bytes of the integer that dtype('i8') or dtype('i4') describes; 0: another type. */
static size_t numpy_integer_size(const struct pickle_value *type)
{
    const struct pickle_value *arguments = type->kind == PICKLE_OBJECT ? type->arguments : NULL;
    if (!arguments || arguments->kind != PICKLE_TUPLE || arguments->items.count == 0) return 0;
    if (pickle_is(arguments->items.values[0], PICKLE_TEXT, "i8")) return 8;
    return pickle_is(arguments->items.values[0], PICKLE_TEXT, "i4") ? 4 : 0;
}

/* numpy.core.multiarray.scalar(dtype, bytes): little-endian, as on every machine that has PyTorch or Keras. */
static bool numpy_integer(const struct pickle_value *value, int64_t *integer)
{
    static const char end[] = ".multiarray.scalar";
    const size_t n = sizeof end - 1;
    const struct pickle_value *callable = value->callable, *arguments = value->arguments;
    if (!callable || callable->kind != PICKLE_GLOBAL || callable->length < n ||
        memcmp(callable->text + callable->length - n, end, n) != 0)
        return false;
    if (!arguments || arguments->kind != PICKLE_TUPLE || arguments->items.count != 2) return false;
    const struct pickle_value *bytes = arguments->items.values[1];
    const size_t size = numpy_integer_size(arguments->items.values[0]);
    int32_t small;
    if (bytes->kind != PICKLE_BYTES || size == 0 || bytes->length != size) return false;
    if (size == sizeof small) {
        memcpy(&small, bytes->text, sizeof small);
        *integer = small;
    } else {
        memcpy(integer, bytes->text, sizeof *integer);
    }
    return true;
}

/* ---- containers ---- */

static json_t *convert_value(struct conversion *conversion, const struct pickle_value *value, size_t depth);

static json_t *convert_items(struct conversion *conversion, const struct pickle_list *items, size_t depth)
{
    json_t *json = json_array();
    for (uint32_t i = 0; json && i < items->count; i++) {
        json_t *item = convert_value(conversion, items->values[i], depth);
        if (item && json_array_append_new(json, item) == 0) continue;
        json_decref(json);
        return item ? check_made(conversion, NULL) : NULL;
    }
    return check_made(conversion, json);
}

static bool put_entry(struct conversion *conversion, json_t *json, const struct pickle_value *key, json_t *value)
{
    char number[24];
    if (key->kind == PICKLE_INTEGER) {
        const int n = snprintf(number, sizeof number, "%" PRId64, key->integer);
        return json_object_setn_new(json, number, (size_t)n, value) == 0 || check_made(conversion, NULL);
    }
    if (key->kind == PICKLE_TEXT && utf8_valid_prefix(key->text, key->length) == key->length)
        return json_object_setn_new(json, key->text, key->length, value) == 0 || check_made(conversion, NULL);
    json_decref(value);
    refuse_value(conversion, ERROR_INVALID, "has a dictionary with a key that is neither text nor an integer");
    return false;
}

static json_t *convert_entries(struct conversion *conversion, const struct pickle_list *entries, size_t depth)
{
    json_t *json = json_object();
    for (uint32_t i = 0; json && i + 1 < entries->count; i += 2) {
        json_t *item = convert_value(conversion, entries->values[i + 1], depth);
        if (item && put_entry(conversion, json, entries->values[i], item)) continue;
        json_decref(json);
        return NULL;
    }
    return check_made(conversion, json);
}

static json_t *convert_value(struct conversion *conversion, const struct pickle_value *value, size_t depth)
{
    int64_t integer = 0;
    if (depth == 0 || conversion->left == 0)
        return refuse_value(conversion, ERROR_TOO_LARGE, "holds lists and dictionaries that are too deep or too many");
    conversion->left--;
    switch (value->kind) {
    case PICKLE_BOOL:
        return json_boolean(value->integer != 0);
    case PICKLE_INTEGER:
        return check_made(conversion, json_integer(value->integer));
    case PICKLE_TEXT:
        return convert_text(conversion, value);
    case PICKLE_LIST:
    case PICKLE_TUPLE:
        return convert_items(conversion, &value->items, depth - 1);
    case PICKLE_OBJECT:
        if (numpy_integer(value, &integer)) return check_made(conversion, json_integer(integer));
        return convert_entries(conversion, python_entries(value), depth - 1);
    case PICKLE_DICT:
        return convert_entries(conversion, &value->entries, depth - 1);
    default:
        return json_null();
    }
}

json_t *python_to_json(const struct pickle_value *value, const char *place, struct error *err)
{
    struct conversion conversion = {place, MAX_VALUES, err};
    return convert_value(&conversion, value, MAX_DEPTH);
}

json_t *python_characters_to_json(const struct pickle_value *text, const char *place, struct error *err)
{
    struct conversion conversion = {place, MAX_VALUES, err};
    json_t *json = json_array();
    for (size_t i = 0; json && i < text->length;) {
        uint32_t code;
        const size_t n = utf8_decode(text->text + i, text->length - i, &code);
        if (n > 0 && json_array_append_new(json, json_stringn(text->text + i, n)) == 0) {
            i += n;
            continue;
        }
        json_decref(json);
        return n > 0 ? check_made(&conversion, NULL)
                     : refuse_value(&conversion, ERROR_INVALID, "has a text that is not UTF-8");
    }
    return check_made(&conversion, json);
}
