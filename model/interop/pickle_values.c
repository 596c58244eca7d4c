/* The values that the opcodes of a pickle build: numbers, texts, classes and objects, containers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/interop/pickle_internal.h"

#define MAX_NUMBER_TEXT 64 /* characters of a number written as text that are looked at */

/* ---- numbers ---- */

bool pickle_push_integer(struct pickle_machine *machine, enum pickle_kind kind, int64_t integer, struct error *err)
{
    struct pickle_value *value = pickle_value_new(machine, kind, err);
    if (value) value->integer = integer;
    return pickle_push(machine, value, err);
}

static bool pickle_push_real(struct pickle_machine *machine, double real, struct error *err)
{
    struct pickle_value *value = pickle_value_new(machine, PICKLE_REAL, err);
    if (value) value->real = real;
    return pickle_push(machine, value, err);
}

static bool pickle_push_text(struct pickle_machine *machine, enum pickle_kind kind, const char *text, size_t n,
                             struct error *err)
{
    struct pickle_value *value = pickle_value_new(machine, kind, err);
    if (value) {
        value->text = text;
        value->length = n;
    }
    return pickle_push(machine, value, err);
}

bool pickle_push_long(struct pickle_machine *machine, uint64_t n, struct error *err)
{
    const unsigned char *bytes;
    if (!pickle_take(machine, n, &bytes, err)) return false;
    if (n > sizeof(int64_t)) return pickle_push_text(machine, PICKLE_BIG, (const char *)bytes, n, err);
    uint64_t number = n > 0 && bytes[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = n; i > 0; i--) number = number << 8 | bytes[i - 1];
    return pickle_push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
}

bool pickle_push_integer_line(struct pickle_machine *machine, bool is_int, struct error *err)
{
    const char *line;
    size_t n;
    if (!pickle_take_line(machine, &line, &n, err)) return false;
    if (is_int && n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return pickle_push_integer(machine, PICKLE_BOOL, line[1] == '1', err);
    if (!is_int && n > 0 && line[n - 1] == 'L') n--;
    char text[MAX_NUMBER_TEXT], *end;
    if (n == 0 || n >= sizeof text) return pickle_push_text(machine, PICKLE_BIG, line, n, err);
    memcpy(text, line, n);
    text[n] = '\0';
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    if (end != text + n) return pickle_fail(machine, "not an integer", err);
    if (errno == ERANGE) return pickle_push_text(machine, PICKLE_BIG, line, n, err);
    return pickle_push_integer(machine, PICKLE_INTEGER, number, err);
}

bool pickle_push_float_line(struct pickle_machine *machine, struct error *err)
{
    const char *line;
    size_t n;
    char text[MAX_NUMBER_TEXT], *end;
    if (!pickle_take_line(machine, &line, &n, err)) return false;
    if (n == 0 || n >= sizeof text) return pickle_fail(machine, "not a number", err);
    memcpy(text, line, n);
    text[n] = '\0';
    const double real = strtod(text, &end);
    if (end != text + n) return pickle_fail(machine, "not a number", err);
    return pickle_push_real(machine, real, err);
}

bool pickle_push_binary_float(struct pickle_machine *machine, struct error *err)
{
    uint64_t number;
    double real;
    if (!pickle_take_number(machine, sizeof number, &number, err)) return false;
    number = __builtin_bswap64(number);
    memcpy(&real, &number, sizeof real);
    return pickle_push_real(machine, real, err);
}

/* ---- texts ---- */

bool pickle_push_counted_text(struct pickle_machine *machine, enum pickle_kind kind, size_t length_bytes,
                              struct error *err)
{
    uint64_t n;
    const unsigned char *bytes;
    return pickle_take_number(machine, length_bytes, &n, err) && pickle_take(machine, n, &bytes, err) &&
           pickle_push_text(machine, kind, (const char *)bytes, n, err);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The number of exactly n hexadecimal digits at text[0..left), or UINT32_MAX. */
static uint32_t hex_number(const char *text, size_t left, size_t n)
{
    uint32_t number = 0;
    if (left < n) return UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        const int digit = hex_digit(text[i]);
        if (digit < 0) return UINT32_MAX;
        number = number << 4 | (uint32_t)digit;
    }
    return number;
}

/* Reads one escape after a backslash of a Python string literal. Returns the characters used; 0: it is not known. */
static size_t read_escape(const char *text, size_t left, char *out)
{
    static const char letters[] = "n\nt\tr\rv\vf\fb\ba\a\\\\''\"\"";
    if (left > 0 && *text == 'x') {
        const uint32_t number = hex_number(text + 1, left - 1, 2);
        *out = (char)number;
        return number == UINT32_MAX ? 0 : 3;
    }
    for (size_t i = 0; left > 0 && i + 1 < sizeof letters; i += 2) {
        if (*text != letters[i]) continue;
        *out = letters[i + 1];
        return 1;
    }
    return 0;
}

bool pickle_push_literal(struct pickle_machine *machine, struct error *err)
{
    const char *line;
    size_t n, used = 0;
    if (!pickle_take_line(machine, &line, &n, err)) return false;
    if (n < 2 || (line[0] != '\'' && line[0] != '"') || line[n - 1] != line[0])
        return pickle_fail(machine, "a string without its quotes", err);
    char *text = pickle_allocate(machine, n, err);
    if (!text) return false;
    for (size_t i = 1; i < n - 1; used++) {
        text[used] = line[i++];
        if (text[used] == '\\') i += read_escape(line + i, n - 1 - i, &text[used]);
    }
    return pickle_push_text(machine, PICKLE_TEXT, text, used, err);
}

bool pickle_push_raw_unicode(struct pickle_machine *machine, struct error *err)
{
    const char *line;
    size_t n, used = 0;
    if (!pickle_take_line(machine, &line, &n, err)) return false;
    char *text = pickle_allocate(machine, 2 * n, err);
    if (!text) return false;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = (unsigned char)line[i];
        const size_t digits = code != '\\' || i + 1 == n ? 0 : line[i + 1] == 'u' ? 4 : line[i + 1] == 'U' ? 8 : 0;
        if (digits > 0) {
            code = hex_number(line + i + 2, n - i - 2, digits);
            i += 1 + digits;
        }
        const size_t length = utf8_encode(code, text + used);
        if (length == 0) return pickle_fail(machine, "an escape that is no character", err);
        used += length;
    }
    return pickle_push_text(machine, PICKLE_TEXT, text, used, err);
}

/* ---- classes and objects ---- */

static struct pickle_value *new_global(struct pickle_machine *machine, const char *module, size_t module_length,
                                       const char *name, size_t name_length, struct error *err)
{
    struct pickle_value *value = pickle_value_new(machine, PICKLE_GLOBAL, err);
    char *text = value ? pickle_allocate(machine, module_length + 1 + name_length, err) : NULL;
    if (!text) return NULL;
    memcpy(text, module, module_length);
    text[module_length] = '.';
    memcpy(text + module_length + 1, name, name_length);
    value->text = text;
    value->length = module_length + 1 + name_length;
    return value;
}

static struct pickle_value *take_global(struct pickle_machine *machine, struct error *err)
{
    const char *module, *name;
    size_t module_length, name_length;
    if (!pickle_take_line(machine, &module, &module_length, err) ||
        !pickle_take_line(machine, &name, &name_length, err))
        return NULL;
    return new_global(machine, module, module_length, name, name_length, err);
}

bool pickle_push_global(struct pickle_machine *machine, struct error *err)
{
    return pickle_push(machine, take_global(machine, err), err);
}

bool pickle_push_stack_global(struct pickle_machine *machine, struct error *err)
{
    struct pickle_value **names;
    if (!pickle_pop(machine, 2, &names, err)) return false;
    if (names[0]->kind != PICKLE_TEXT || names[1]->kind != PICKLE_TEXT)
        return pickle_fail(machine, "a class whose name is not a text", err);
    return pickle_push(
        machine, new_global(machine, names[0]->text, names[0]->length, names[1]->text, names[1]->length, err), err);
}

static bool push_object(struct pickle_machine *machine, struct pickle_value *callable, struct pickle_value *arguments,
                        struct error *err)
{
    if (arguments->kind != PICKLE_TUPLE) return pickle_fail(machine, "arguments that are not a tuple", err);
    struct pickle_value *value = pickle_value_new(machine, PICKLE_OBJECT, err);
    if (!value || !pickle_list_append(machine, &machine->objects, value, err)) return false;
    value->callable = callable;
    value->arguments = arguments;
    return pickle_push(machine, value, err);
}

bool pickle_push_call(struct pickle_machine *machine, uint32_t operands, struct error *err)
{
    struct pickle_value **values;
    return pickle_pop(machine, operands, &values, err) && push_object(machine, values[0], values[1], err);
}

bool pickle_push_persistent(struct pickle_machine *machine, struct pickle_value *id, struct error *err)
{
    struct pickle_value *value = id ? pickle_value_new(machine, PICKLE_PERSISTENT, err) : NULL;
    if (!value || !pickle_list_append(machine, &machine->objects, value, err)) return false;
    value->callable = id;
    return pickle_push(machine, value, err);
}

bool pickle_push_persistent_line(struct pickle_machine *machine, struct error *err)
{
    const char *line;
    size_t n;
    struct pickle_value *id =
        pickle_take_line(machine, &line, &n, err) ? pickle_value_new(machine, PICKLE_TEXT, err) : NULL;
    if (id) {
        id->text = line;
        id->length = n;
    }
    return pickle_push_persistent(machine, id, err);
}

bool pickle_set_state(struct pickle_machine *machine, struct error *err)
{
    struct pickle_value **values;
    if (!pickle_pop(machine, 2, &values, err)) return false;
    if (values[0]->kind != PICKLE_OBJECT) return pickle_fail(machine, "a state for what is not an object", err);
    values[0]->state = values[1];
    machine->stack.count++;
    return true;
}

/* ---- containers ---- */

/* The container will take the place on the stack where the values begin, so they are copied first. */
bool pickle_push_container(struct pickle_machine *machine, enum pickle_kind kind, const struct pickle_list *values,
                           struct error *err)
{
    struct pickle_value *container = pickle_value_new(machine, kind, err);
    if (!container) return false;
    if (kind == PICKLE_DICT && values->count % 2 != 0) return pickle_fail(machine, "a key without a value", err);
    struct pickle_list *list = kind == PICKLE_DICT ? &container->entries : &container->items;
    if (values->count > 0) {
        list->values = pickle_allocate(machine, values->count * sizeof(struct pickle_value *), err);
        if (!list->values) return false;
        memcpy(list->values, values->values, values->count * sizeof(struct pickle_value *));
        list->count = list->capacity = values->count;
    }
    return pickle_push(machine, container, err);
}

bool pickle_push_marked(struct pickle_machine *machine, enum pickle_kind kind, struct error *err)
{
    struct pickle_list values;
    return pickle_pop_mark(machine, &values, err) && pickle_push_container(machine, kind, &values, err);
}

bool pickle_push_tuple(struct pickle_machine *machine, uint32_t n, struct error *err)
{
    struct pickle_value **first;
    if (!pickle_pop(machine, n, &first, err)) return false;
    return pickle_push_container(machine, PICKLE_TUPLE, &(struct pickle_list){.values = first, .count = n}, err);
}

bool pickle_push_instance(struct pickle_machine *machine, bool in_line, struct error *err)
{
    struct pickle_value *callable = in_line ? take_global(machine, err) : NULL;
    struct pickle_list values;
    if ((in_line && !callable) || !pickle_pop_mark(machine, &values, err)) return false;
    if (!in_line) {
        if (values.count == 0) return pickle_fail(machine, "an object without a class", err);
        callable = values.values[0];
        values.values++;
        values.count--;
    }
    struct pickle_value **arguments;
    return pickle_push_container(machine, PICKLE_TUPLE, &values, err) && pickle_pop(machine, 1, &arguments, err) &&
           push_object(machine, callable, *arguments, err);
}

/* Whether a value of this kind takes items (or entries); an object takes anything. */
static bool can_extend(const struct pickle_value *value, bool entries)
{
    if (value->kind == PICKLE_OBJECT) return true;
    return entries ? value->kind == PICKLE_DICT : value->kind == PICKLE_LIST || value->kind == PICKLE_SET;
}

/* Adds values to the container below them. */
static bool extend_container(struct pickle_machine *machine, const struct pickle_list *values, bool entries,
                             struct error *err)
{
    if (pickle_available(machine) == 0) return pickle_fail(machine, "takes more from the stack than is there", err);
    struct pickle_value *container = machine->stack.values[machine->stack.count - 1];
    if (!can_extend(container, entries)) return pickle_fail(machine, "adds to what is not a container", err);
    if (entries && values->count % 2 != 0) return pickle_fail(machine, "a key without a value", err);
    for (uint32_t i = 0; i < values->count; i++)
        if (!pickle_list_append(machine, entries ? &container->entries : &container->items, values->values[i], err))
            return false;
    return true;
}

bool pickle_extend_top(struct pickle_machine *machine, uint32_t n, struct error *err)
{
    struct pickle_value **first;
    return pickle_pop(machine, n, &first, err) &&
           extend_container(machine, &(struct pickle_list){.values = first, .count = n}, n == 2, err);
}

bool pickle_extend_marked(struct pickle_machine *machine, bool entries, struct error *err)
{
    struct pickle_list values;
    return pickle_pop_mark(machine, &values, err) && extend_container(machine, &values, entries, err);
}
