#include "model/interop/pickle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

#define HIGHEST_PROTOCOL 5
#define CHUNK_SIZE       ((size_t)64 << 10)
#define MAX_NUMBER_TEXT  64 /* characters of a number written as text that are looked at */

/* Names of opcodes as in pickletools. */
enum opcode {
    MARK = '(',
    STOP = '.',
    POP = '0',
    POP_MARK = '1',
    DUP = '2',
    FLOAT = 'F',
    INT = 'I',
    BININT = 'J',
    BININT1 = 'K',
    LONG = 'L',
    BININT2 = 'M',
    NONE = 'N',
    PERSID = 'P',
    BINPERSID = 'Q',
    REDUCE = 'R',
    STRING = 'S',
    BINSTRING = 'T',
    SHORT_BINSTRING = 'U',
    UNICODE = 'V',
    BINUNICODE = 'X',
    APPEND = 'a',
    BUILD = 'b',
    GLOBAL = 'c',
    DICT = 'd',
    EMPTY_DICT = '}',
    APPENDS = 'e',
    GET = 'g',
    BINGET = 'h',
    INST = 'i',
    LONG_BINGET = 'j',
    LIST = 'l',
    EMPTY_LIST = ']',
    OBJ = 'o',
    PUT = 'p',
    BINPUT = 'q',
    LONG_BINPUT = 'r',
    SETITEM = 's',
    TUPLE = 't',
    EMPTY_TUPLE = ')',
    SETITEMS = 'u',
    BINFLOAT = 'G',
    BINBYTES = 'B',
    SHORT_BINBYTES = 'C',
    PROTO = 0x80,
    NEWOBJ = 0x81,
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    LONG1 = 0x8A,
    LONG4 = 0x8B,
    SHORT_BINUNICODE = 0x8C,
    BINUNICODE8 = 0x8D,
    BINBYTES8 = 0x8E,
    EMPTY_SET = 0x8F,
    ADDITEMS = 0x90,
    FROZENSET = 0x91,
    NEWOBJ_EX = 0x92,
    STACK_GLOBAL = 0x93,
    MEMOIZE = 0x94,
    FRAME = 0x95,
    BYTEARRAY8 = 0x96,
};

struct machine {
    struct arena *arena;
    const char *place;
    const unsigned char *data;
    size_t size, at;
    size_t opcode_at;
    char *chunk; /* small pieces of the arena */
    size_t chunk_left, values, arena_before;
    struct pickle_list stack, memo, objects;
    uint32_t *marks; /* heights of the stack */
    uint32_t mark_count, mark_capacity;
};

/* ---- errors and memory ---- */

static bool fail(const struct machine *machine, const char *what, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s: pickle, byte %zu: %s", machine->place, machine->opcode_at, what);
}

static bool fail_large(const struct machine *machine, struct error *err)
{
    return error_set(err, ERROR_TOO_LARGE, "%s: pickle, byte %zu: more values or memory than are read", machine->place,
                     machine->opcode_at);
}

static void *allocate(struct machine *machine, size_t bytes, struct error *err)
{
    bytes = size_round_up(bytes > 0 ? bytes : 1, _Alignof(max_align_t));
    if (bytes > machine->chunk_left) {
        const size_t wanted = bytes > CHUNK_SIZE / 4 ? bytes : CHUNK_SIZE;
        if (machine->arena->total - machine->arena_before + wanted > PICKLE_MAX_MEMORY) {
            fail_large(machine, err);
            return NULL;
        }
        char *fresh = arena_alloc(machine->arena, wanted, 1, "the values of a pickle", err);
        if (!fresh || wanted != CHUNK_SIZE) return fresh;
        machine->chunk = fresh;
        machine->chunk_left = wanted;
    }
    void *piece = machine->chunk;
    machine->chunk += bytes;
    machine->chunk_left -= bytes;
    return piece;
}

static bool list_append(struct machine *machine, struct pickle_list *list, struct pickle_value *value,
                        struct error *err)
{
    if (list->count == list->capacity) {
        if (list->capacity >= PICKLE_MAX_VALUES) return fail_large(machine, err);
        const uint32_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct pickle_value **values = allocate(machine, capacity * sizeof *values, err);
        if (!values) return false;
        if (list->count > 0) memcpy(values, list->values, list->count * sizeof *values);
        list->values = values;
        list->capacity = capacity;
    }
    list->values[list->count++] = value;
    return true;
}

static struct pickle_value *new_value(struct machine *machine, enum pickle_kind kind, struct error *err)
{
    if (++machine->values > PICKLE_MAX_VALUES) {
        fail_large(machine, err);
        return NULL;
    }
    struct pickle_value *value = allocate(machine, sizeof *value, err);
    if (value) value->kind = kind;
    return value;
}

/* ---- the stack ---- */

static bool push(struct machine *machine, struct pickle_value *value, struct error *err)
{
    return value && list_append(machine, &machine->stack, value, err);
}

/* Values above the last mark, which alone may be taken. */
static uint32_t available(const struct machine *machine)
{
    return machine->stack.count - (machine->mark_count ? machine->marks[machine->mark_count - 1] : 0);
}

/* Takes n values off; *first is the lowest. */
static bool pop(struct machine *machine, uint32_t n, struct pickle_value ***first, struct error *err)
{
    if (!machine->stack.values || available(machine) < n)
        return fail(machine, "takes more from the stack than is there", err);
    machine->stack.count -= n;
    *first = machine->stack.values + machine->stack.count;
    return true;
}

static bool push_mark(struct machine *machine, struct error *err)
{
    if (machine->mark_count == machine->mark_capacity) {
        if (machine->mark_capacity >= PICKLE_MAX_VALUES) return fail_large(machine, err);
        const uint32_t capacity = machine->mark_capacity ? machine->mark_capacity * 2 : 16;
        uint32_t *marks = allocate(machine, capacity * sizeof *marks, err);
        if (!marks) return false;
        if (machine->mark_count > 0) memcpy(marks, machine->marks, machine->mark_count * sizeof *marks);
        machine->marks = marks;
        machine->mark_capacity = capacity;
    }
    machine->marks[machine->mark_count++] = machine->stack.count;
    return true;
}

/* Takes off everything down to the last mark, and the mark. The values stand where they are until the next push. */
static bool pop_mark(struct machine *machine, struct pickle_list *above, struct error *err)
{
    if (machine->mark_count == 0) return fail(machine, "needs a mark and there is none", err);
    const uint32_t mark = machine->marks[--machine->mark_count];
    const uint32_t count = machine->stack.count - mark;
    *above = (struct pickle_list){.values = count > 0 ? machine->stack.values + mark : NULL, .count = count};
    machine->stack.count = mark;
    return true;
}

/* ---- input ---- */

static bool take(struct machine *machine, size_t n, const unsigned char **bytes, struct error *err)
{
    if (machine->size - machine->at < n)
        return error_set(err, ERROR_CORRUPT, "%s: pickle, byte %zu: the data end here, inside of the pickle",
                         machine->place, machine->size);
    *bytes = machine->data + machine->at;
    machine->at += n;
    return true;
}

/* A little-endian number of n <= 8 bytes. */
static bool take_number(struct machine *machine, size_t n, uint64_t *number, struct error *err)
{
    const unsigned char *bytes;
    if (!take(machine, n, &bytes, err)) return false;
    *number = 0;
    for (size_t i = 0; i < n; i++) *number |= (uint64_t)bytes[i] << 8 * i;
    return true;
}

/* Up to a newline, which is taken too. */
static bool take_line(struct machine *machine, const char **line, size_t *n, struct error *err)
{
    const unsigned char *start = machine->data + machine->at;
    const unsigned char *end = memchr(start, '\n', machine->size - machine->at);
    const unsigned char *bytes;
    if (!take(machine, end ? (size_t)(end - start) + 1 : SIZE_MAX, &bytes, err)) return false;
    *line = (const char *)start;
    *n = (size_t)(end - start);
    return true;
}

/* ---- numbers ---- */

static bool push_integer(struct machine *machine, enum pickle_kind kind, int64_t integer, struct error *err)
{
    struct pickle_value *value = new_value(machine, kind, err);
    if (value) value->integer = integer;
    return push(machine, value, err);
}

static bool push_real(struct machine *machine, double real, struct error *err)
{
    struct pickle_value *value = new_value(machine, PICKLE_REAL, err);
    if (value) value->real = real;
    return push(machine, value, err);
}

static bool push_text(struct machine *machine, enum pickle_kind kind, const char *text, size_t n, struct error *err)
{
    struct pickle_value *value = new_value(machine, kind, err);
    if (value) {
        value->text = text;
        value->length = n;
    }
    return push(machine, value, err);
}

/* Two's complement, lowest byte first. */
static bool push_long(struct machine *machine, uint64_t n, struct error *err)
{
    const unsigned char *bytes;
    if (!take(machine, n, &bytes, err)) return false;
    if (n > sizeof(int64_t)) return push_text(machine, PICKLE_BIG, (const char *)bytes, n, err);
    uint64_t number = n > 0 && bytes[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = n; i > 0; i--) number = number << 8 | bytes[i - 1];
    return push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
}

/* INT and LONG: "12", "12L"; INT also writes "00" and "01" for false and true. */
static bool push_integer_line(struct machine *machine, bool is_int, struct error *err)
{
    const char *line;
    size_t n;
    if (!take_line(machine, &line, &n, err)) return false;
    if (is_int && n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return push_integer(machine, PICKLE_BOOL, line[1] == '1', err);
    if (!is_int && n > 0 && line[n - 1] == 'L') n--;
    char text[MAX_NUMBER_TEXT], *end;
    if (n == 0 || n >= sizeof text) return push_text(machine, PICKLE_BIG, line, n, err);
    memcpy(text, line, n);
    text[n] = '\0';
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    if (end != text + n) return fail(machine, "not an integer", err);
    if (errno == ERANGE) return push_text(machine, PICKLE_BIG, line, n, err);
    return push_integer(machine, PICKLE_INTEGER, number, err);
}

static bool push_float_line(struct machine *machine, struct error *err)
{
    const char *line;
    size_t n;
    char text[MAX_NUMBER_TEXT], *end;
    if (!take_line(machine, &line, &n, err)) return false;
    if (n == 0 || n >= sizeof text) return fail(machine, "not a number", err);
    memcpy(text, line, n);
    text[n] = '\0';
    const double real = strtod(text, &end);
    if (end != text + n) return fail(machine, "not a number", err);
    return push_real(machine, real, err);
}

/* Eight bytes, the highest first. */
static bool push_binary_float(struct machine *machine, struct error *err)
{
    uint64_t number;
    double real;
    if (!take_number(machine, sizeof number, &number, err)) return false;
    number = __builtin_bswap64(number);
    memcpy(&real, &number, sizeof real);
    return push_real(machine, real, err);
}

/* ---- texts ---- */

static bool push_counted_text(struct machine *machine, enum pickle_kind kind, size_t length_bytes, struct error *err)
{
    uint64_t n;
    const unsigned char *bytes;
    return take_number(machine, length_bytes, &n, err) && take(machine, n, &bytes, err) &&
           push_text(machine, kind, (const char *)bytes, n, err);
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

/* One escape after a backslash of a Python string literal: returns the characters used, 0 for none that is known. */
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

/* STRING: a Python 2 literal in quotes. */
static bool push_literal(struct machine *machine, struct error *err)
{
    const char *line;
    size_t n, used = 0;
    if (!take_line(machine, &line, &n, err)) return false;
    if (n < 2 || (line[0] != '\'' && line[0] != '"') || line[n - 1] != line[0])
        return fail(machine, "a string without its quotes", err);
    char *text = allocate(machine, n, err);
    if (!text) return false;
    for (size_t i = 1; i < n - 1; used++) {
        text[used] = line[i++];
        if (text[used] == '\\') i += read_escape(line + i, n - 1 - i, &text[used]);
    }
    return push_text(machine, PICKLE_TEXT, text, used, err);
}

/* UNICODE: \uXXXX and \UXXXXXXXX are characters, and so is every other byte, of Latin-1. */
static bool push_raw_unicode(struct machine *machine, struct error *err)
{
    const char *line;
    size_t n, used = 0;
    if (!take_line(machine, &line, &n, err)) return false;
    char *text = allocate(machine, 2 * n, err);
    if (!text) return false;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = (unsigned char)line[i];
        const size_t digits = code != '\\' || i + 1 == n ? 0 : line[i + 1] == 'u' ? 4 : line[i + 1] == 'U' ? 8 : 0;
        if (digits > 0) {
            code = hex_number(line + i + 2, n - i - 2, digits);
            i += 1 + digits;
        }
        const size_t length = utf8_encode(code, text + used);
        if (length == 0) return fail(machine, "an escape that is no character", err);
        used += length;
    }
    return push_text(machine, PICKLE_TEXT, text, used, err);
}

/* ---- classes and objects ---- */

static struct pickle_value *new_global(struct machine *machine, const char *module, size_t module_length,
                                       const char *name, size_t name_length, struct error *err)
{
    struct pickle_value *value = new_value(machine, PICKLE_GLOBAL, err);
    char *text = value ? allocate(machine, module_length + 1 + name_length, err) : NULL;
    if (!text) return NULL;
    memcpy(text, module, module_length);
    text[module_length] = '.';
    memcpy(text + module_length + 1, name, name_length);
    value->text = text;
    value->length = module_length + 1 + name_length;
    return value;
}

static struct pickle_value *take_global(struct machine *machine, struct error *err)
{
    const char *module, *name;
    size_t module_length, name_length;
    if (!take_line(machine, &module, &module_length, err) || !take_line(machine, &name, &name_length, err)) return NULL;
    return new_global(machine, module, module_length, name, name_length, err);
}

static bool push_stack_global(struct machine *machine, struct error *err)
{
    struct pickle_value **names;
    if (!pop(machine, 2, &names, err)) return false;
    if (names[0]->kind != PICKLE_TEXT || names[1]->kind != PICKLE_TEXT)
        return fail(machine, "a class whose name is not a text", err);
    return push(machine, new_global(machine, names[0]->text, names[0]->length, names[1]->text, names[1]->length, err),
                err);
}

static bool push_object(struct machine *machine, struct pickle_value *callable, struct pickle_value *arguments,
                        struct error *err)
{
    if (arguments->kind != PICKLE_TUPLE) return fail(machine, "arguments that are not a tuple", err);
    struct pickle_value *value = new_value(machine, PICKLE_OBJECT, err);
    if (!value || !list_append(machine, &machine->objects, value, err)) return false;
    value->callable = callable;
    value->arguments = arguments;
    return push(machine, value, err);
}

/* REDUCE and NEWOBJ: callable, arguments. NEWOBJ_EX: keyword arguments too, which nobody asks for. */
static bool reduce(struct machine *machine, uint32_t operands, struct error *err)
{
    struct pickle_value **values;
    return pop(machine, operands, &values, err) && push_object(machine, values[0], values[1], err);
}

static bool push_persistent(struct machine *machine, struct pickle_value *id, struct error *err)
{
    struct pickle_value *value = id ? new_value(machine, PICKLE_PERSISTENT, err) : NULL;
    if (!value || !list_append(machine, &machine->objects, value, err)) return false;
    value->callable = id;
    return push(machine, value, err);
}

static bool push_persistent_line(struct machine *machine, struct error *err)
{
    const char *line;
    size_t n;
    struct pickle_value *id = take_line(machine, &line, &n, err) ? new_value(machine, PICKLE_TEXT, err) : NULL;
    if (id) {
        id->text = line;
        id->length = n;
    }
    return push_persistent(machine, id, err);
}

static bool build(struct machine *machine, struct error *err)
{
    struct pickle_value **values;
    if (!pop(machine, 2, &values, err)) return false;
    if (values[0]->kind != PICKLE_OBJECT) return fail(machine, "a state for what is not an object", err);
    values[0]->state = values[1];
    machine->stack.count++;
    return true;
}

/* ---- containers ---- */

/* The values stand above the place on the stack that the container takes: they are copied before it is pushed. */
static bool push_container(struct machine *machine, enum pickle_kind kind, const struct pickle_list *values,
                           struct error *err)
{
    struct pickle_value *container = new_value(machine, kind, err);
    if (!container) return false;
    if (kind == PICKLE_DICT && values->count % 2 != 0) return fail(machine, "a key without a value", err);
    struct pickle_list *list = kind == PICKLE_DICT ? &container->entries : &container->items;
    if (values->count > 0) {
        list->values = allocate(machine, values->count * sizeof(struct pickle_value *), err);
        if (!list->values) return false;
        memcpy(list->values, values->values, values->count * sizeof(struct pickle_value *));
        list->count = list->capacity = values->count;
    }
    return push(machine, container, err);
}

static bool push_marked(struct machine *machine, enum pickle_kind kind, struct error *err)
{
    struct pickle_list values;
    return pop_mark(machine, &values, err) && push_container(machine, kind, &values, err);
}

static bool push_tuple(struct machine *machine, uint32_t n, struct error *err)
{
    struct pickle_value **first;
    if (!pop(machine, n, &first, err)) return false;
    return push_container(machine, PICKLE_TUPLE, &(struct pickle_list){.values = first, .count = n}, err);
}

/* INST: the class is named in line; OBJ: it stands below the arguments. */
static bool push_instance(struct machine *machine, bool in_line, struct error *err)
{
    struct pickle_value *callable = in_line ? take_global(machine, err) : NULL;
    struct pickle_list values;
    if ((in_line && !callable) || !pop_mark(machine, &values, err)) return false;
    if (!in_line) {
        if (values.count == 0) return fail(machine, "an object without a class", err);
        callable = values.values[0];
        values.values++;
        values.count--;
    }
    struct pickle_value **arguments;
    return push_container(machine, PICKLE_TUPLE, &values, err) && pop(machine, 1, &arguments, err) &&
           push_object(machine, callable, *arguments, err);
}

/* Whether a value of this kind takes items (or entries); an object takes anything. */
static bool takes(const struct pickle_value *value, bool entries)
{
    if (value->kind == PICKLE_OBJECT) return true;
    return entries ? value->kind == PICKLE_DICT : value->kind == PICKLE_LIST || value->kind == PICKLE_SET;
}

/* Adds values to the container below them. */
static bool extend(struct machine *machine, const struct pickle_list *values, bool entries, struct error *err)
{
    if (available(machine) == 0) return fail(machine, "takes more from the stack than is there", err);
    struct pickle_value *container = machine->stack.values[machine->stack.count - 1];
    if (!takes(container, entries)) return fail(machine, "adds to what is not a container", err);
    if (entries && values->count % 2 != 0) return fail(machine, "a key without a value", err);
    for (uint32_t i = 0; i < values->count; i++)
        if (!list_append(machine, entries ? &container->entries : &container->items, values->values[i], err))
            return false;
    return true;
}

static bool extend_top(struct machine *machine, uint32_t n, struct error *err)
{
    struct pickle_value **first;
    return pop(machine, n, &first, err) &&
           extend(machine, &(struct pickle_list){.values = first, .count = n}, n == 2, err);
}

static bool extend_marked(struct machine *machine, bool entries, struct error *err)
{
    struct pickle_list values;
    return pop_mark(machine, &values, err) && extend(machine, &values, entries, err);
}

/* ---- the memo ---- */

static bool memo_set(struct machine *machine, uint64_t number, struct error *err)
{
    if (available(machine) == 0) return fail(machine, "takes more from the stack than is there", err);
    if (number >= PICKLE_MAX_VALUES) return fail_large(machine, err);
    while (machine->memo.count <= number)
        if (!list_append(machine, &machine->memo, NULL, err)) return false;
    machine->memo.values[number] = machine->stack.values[machine->stack.count - 1];
    return true;
}

static bool memo_get(struct machine *machine, uint64_t number, struct error *err)
{
    if (number >= machine->memo.count || !machine->memo.values[number])
        return fail(machine, "refers to a value that there is not", err);
    return push(machine, machine->memo.values[number], err);
}

static bool take_decimal(struct machine *machine, uint64_t *number, struct error *err)
{
    const char *line;
    size_t n;
    if (!take_line(machine, &line, &n, err)) return false;
    *number = 0;
    for (size_t i = 0; i < n; i++) {
        if (line[i] < '0' || line[i] > '9' || n > 9) return fail(machine, "not the number of a value", err);
        *number = *number * 10 + (uint64_t)(line[i] - '0');
    }
    return n > 0 || fail(machine, "not the number of a value", err);
}

static bool run_memo(struct machine *machine, int opcode, struct error *err)
{
    uint64_t number;
    switch (opcode) {
    case PUT:
        return take_decimal(machine, &number, err) && memo_set(machine, number, err);
    case BINPUT:
        return take_number(machine, 1, &number, err) && memo_set(machine, number, err);
    case LONG_BINPUT:
        return take_number(machine, 4, &number, err) && memo_set(machine, number, err);
    case MEMOIZE:
        return memo_set(machine, machine->memo.count, err);
    case GET:
        return take_decimal(machine, &number, err) && memo_get(machine, number, err);
    case BINGET:
        return take_number(machine, 1, &number, err) && memo_get(machine, number, err);
    default:
        return take_number(machine, 4, &number, err) && memo_get(machine, number, err);
    }
}

/* ---- opcodes ---- */

static bool run_number(struct machine *machine, int opcode, struct error *err)
{
    uint64_t number;
    switch (opcode) {
    case INT:
    case LONG:
        return push_integer_line(machine, opcode == INT, err);
    case BININT:
        return take_number(machine, 4, &number, err) &&
               push_integer(machine, PICKLE_INTEGER, (int32_t)(uint32_t)number, err);
    case BININT1:
        return take_number(machine, 1, &number, err) && push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
    case BININT2:
        return take_number(machine, 2, &number, err) && push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
    case LONG1:
        return take_number(machine, 1, &number, err) && push_long(machine, number, err);
    case LONG4:
        return take_number(machine, 4, &number, err) && push_long(machine, number, err);
    case FLOAT:
        return push_float_line(machine, err);
    default:
        return push_binary_float(machine, err);
    }
}

static bool run_text(struct machine *machine, int opcode, struct error *err)
{
    switch (opcode) {
    case STRING:
        return push_literal(machine, err);
    case UNICODE:
        return push_raw_unicode(machine, err);
    case SHORT_BINSTRING:
    case SHORT_BINUNICODE:
        return push_counted_text(machine, PICKLE_TEXT, 1, err);
    case BINSTRING:
    case BINUNICODE:
        return push_counted_text(machine, PICKLE_TEXT, 4, err);
    case BINUNICODE8:
        return push_counted_text(machine, PICKLE_TEXT, 8, err);
    case SHORT_BINBYTES:
        return push_counted_text(machine, PICKLE_BYTES, 1, err);
    case BINBYTES:
        return push_counted_text(machine, PICKLE_BYTES, 4, err);
    default:
        return push_counted_text(machine, PICKLE_BYTES, 8, err);
    }
}

static bool run_container(struct machine *machine, int opcode, struct error *err)
{
    const struct pickle_list none = {0};
    switch (opcode) {
    case EMPTY_LIST:
        return push_container(machine, PICKLE_LIST, &none, err);
    case EMPTY_TUPLE:
        return push_container(machine, PICKLE_TUPLE, &none, err);
    case EMPTY_DICT:
        return push_container(machine, PICKLE_DICT, &none, err);
    case EMPTY_SET:
        return push_container(machine, PICKLE_SET, &none, err);
    case LIST:
        return push_marked(machine, PICKLE_LIST, err);
    case TUPLE:
        return push_marked(machine, PICKLE_TUPLE, err);
    case DICT:
        return push_marked(machine, PICKLE_DICT, err);
    case FROZENSET:
        return push_marked(machine, PICKLE_SET, err);
    case APPEND:
        return extend_top(machine, 1, err);
    case SETITEM:
        return extend_top(machine, 2, err);
    case APPENDS:
    case ADDITEMS:
        return extend_marked(machine, false, err);
    case SETITEMS:
        return extend_marked(machine, true, err);
    default:
        return push_tuple(machine, (uint32_t)(opcode - TUPLE1 + 1), err);
    }
}

static bool run_object(struct machine *machine, int opcode, struct error *err)
{
    struct pickle_value **values;
    switch (opcode) {
    case GLOBAL:
        return push(machine, take_global(machine, err), err);
    case STACK_GLOBAL:
        return push_stack_global(machine, err);
    case REDUCE:
    case NEWOBJ:
        return reduce(machine, 2, err);
    case NEWOBJ_EX:
        return reduce(machine, 3, err);
    case INST:
    case OBJ:
        return push_instance(machine, opcode == INST, err);
    case PERSID:
        return push_persistent_line(machine, err);
    case BINPERSID:
        return pop(machine, 1, &values, err) && push_persistent(machine, *values, err);
    default:
        return build(machine, err);
    }
}

static bool run_protocol(struct machine *machine, struct error *err)
{
    uint64_t number;
    if (!take_number(machine, 1, &number, err)) return false;
    return number <= HIGHEST_PROTOCOL || fail(machine, "a protocol above 5", err);
}

static bool run_stack(struct machine *machine, int opcode, struct error *err)
{
    struct pickle_value **values;
    struct pickle_list marked;
    switch (opcode) {
    case MARK:
        return push_mark(machine, err);
    case POP_MARK:
        return pop_mark(machine, &marked, err);
    case POP:
        if (available(machine) == 0 && machine->mark_count > 0) return pop_mark(machine, &marked, err);
        return pop(machine, 1, &values, err);
    default:
        if (available(machine) == 0) return fail(machine, "takes more from the stack than is there", err);
        return push(machine, machine->stack.values[machine->stack.count - 1], err);
    }
}

static bool run(struct machine *machine, int opcode, struct error *err)
{
    uint64_t length;
    switch (opcode) {
    case PROTO:
        return run_protocol(machine, err);
    case FRAME: /* says how much follows; nothing depends on it */
        return take_number(machine, 8, &length, err);
    case MARK:
    case POP:
    case POP_MARK:
    case DUP:
        return run_stack(machine, opcode, err);
    case NONE:
        return push(machine, new_value(machine, PICKLE_NONE, err), err);
    case NEWTRUE:
    case NEWFALSE:
        return push_integer(machine, PICKLE_BOOL, opcode == NEWTRUE, err);
    case INT:
    case LONG:
    case BININT:
    case BININT1:
    case BININT2:
    case LONG1:
    case LONG4:
    case FLOAT:
    case BINFLOAT:
        return run_number(machine, opcode, err);
    case STRING:
    case UNICODE:
    case BINSTRING:
    case SHORT_BINSTRING:
    case BINUNICODE:
    case SHORT_BINUNICODE:
    case BINUNICODE8:
    case BINBYTES:
    case SHORT_BINBYTES:
    case BINBYTES8:
    case BYTEARRAY8:
        return run_text(machine, opcode, err);
    case EMPTY_LIST:
    case EMPTY_TUPLE:
    case EMPTY_DICT:
    case EMPTY_SET:
    case LIST:
    case TUPLE:
    case DICT:
    case FROZENSET:
    case APPEND:
    case APPENDS:
    case ADDITEMS:
    case SETITEM:
    case SETITEMS:
    case TUPLE1:
    case TUPLE2:
    case TUPLE3:
        return run_container(machine, opcode, err);
    case PUT:
    case BINPUT:
    case LONG_BINPUT:
    case MEMOIZE:
    case GET:
    case BINGET:
    case LONG_BINGET:
        return run_memo(machine, opcode, err);
    case GLOBAL:
    case STACK_GLOBAL:
    case REDUCE:
    case NEWOBJ:
    case NEWOBJ_EX:
    case INST:
    case OBJ:
    case PERSID:
    case BINPERSID:
    case BUILD:
        return run_object(machine, opcode, err);
    default:
        return error_set(err, ERROR_CORRUPT, "%s: pickle, byte %zu: 0x%02X is not an opcode that is read",
                         machine->place, machine->opcode_at, (unsigned)opcode);
    }
}

struct pickle_value *pickle_read(struct arena *arena, const char *place, const void *data, size_t size, size_t *used,
                                 struct pickle_list *objects, struct error *err)
{
    struct machine machine = {.arena = arena, .place = place, .data = data, .size = size, .arena_before = arena->total};
    const unsigned char *opcode;
    for (;;) {
        machine.opcode_at = machine.at;
        if (!take(&machine, 1, &opcode, err)) return NULL;
        if (*opcode == STOP) break;
        if (!run(&machine, *opcode, err)) return NULL;
    }
    struct pickle_value **result;
    if (!pop(&machine, 1, &result, err)) return NULL;
    if (used) *used = machine.at;
    if (objects) *objects = machine.objects;
    if (used || machine.at == size) return *result;
    fail(&machine, "the pickle ends here, but the data go on", err);
    return NULL;
}

/* ---- asking ---- */

bool pickle_is(const struct pickle_value *value, enum pickle_kind kind, const char *text)
{
    return value && value->kind == kind && value->length == strlen(text) &&
           memcmp(value->text, text, value->length) == 0;
}

struct pickle_value *pickle_get(const struct pickle_value *value, const char *key)
{
    if (!value || (value->kind != PICKLE_DICT && value->kind != PICKLE_OBJECT)) return NULL;
    for (uint32_t i = value->entries.count; i >= 2; i -= 2)
        if (pickle_is(value->entries.values[i - 2], PICKLE_TEXT, key)) return value->entries.values[i - 1];
    return NULL;
}
