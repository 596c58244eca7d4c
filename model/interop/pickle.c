#include "model/interop/pickle.h"

#include <string.h>

#include "model/interop/pickle_internal.h"

#define HIGHEST_PROTOCOL 5

/* Opcodes, named as in pickletools. */
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

/* ---- the memo ---- */

static bool memo_set(struct pickle_machine *machine, uint64_t number, struct error *err)
{
    if (pickle_available(machine) == 0) return pickle_fail(machine, "takes more from the stack than is there", err);
    if (number >= PICKLE_MAX_VALUES) return pickle_fail_large(machine, err);
    while (machine->memo.count <= number)
        if (!pickle_list_append(machine, &machine->memo, NULL, err)) return false;
    machine->memo.values[number] = machine->stack.values[machine->stack.count - 1];
    return true;
}

static bool memo_get(struct pickle_machine *machine, uint64_t number, struct error *err)
{
    if (number >= machine->memo.count || !machine->memo.values[number])
        return pickle_fail(machine, "refers to a value that there is not", err);
    return pickle_push(machine, machine->memo.values[number], err);
}

static bool take_decimal(struct pickle_machine *machine, uint64_t *number, struct error *err)
{
    const char *line;
    size_t n;
    if (!pickle_take_line(machine, &line, &n, err)) return false;
    *number = 0;
    for (size_t i = 0; i < n; i++) {
        if (line[i] < '0' || line[i] > '9' || n > 9) return pickle_fail(machine, "not the number of a value", err);
        *number = *number * 10 + (uint64_t)(line[i] - '0');
    }
    return n > 0 || pickle_fail(machine, "not the number of a value", err);
}

static bool run_memo(struct pickle_machine *machine, int opcode, struct error *err)
{
    uint64_t number;
    switch (opcode) {
    case PUT:
        return take_decimal(machine, &number, err) && memo_set(machine, number, err);
    case BINPUT:
        return pickle_take_number(machine, 1, &number, err) && memo_set(machine, number, err);
    case LONG_BINPUT:
        return pickle_take_number(machine, 4, &number, err) && memo_set(machine, number, err);
    case MEMOIZE:
        return memo_set(machine, machine->memo.count, err);
    case GET:
        return take_decimal(machine, &number, err) && memo_get(machine, number, err);
    case BINGET:
        return pickle_take_number(machine, 1, &number, err) && memo_get(machine, number, err);
    default:
        return pickle_take_number(machine, 4, &number, err) && memo_get(machine, number, err);
    }
}

/* ---- opcodes ---- */

static bool run_number(struct pickle_machine *machine, int opcode, struct error *err)
{
    uint64_t number;
    switch (opcode) {
    case INT:
    case LONG:
        return pickle_push_integer_line(machine, opcode == INT, err);
    case BININT:
        return pickle_take_number(machine, 4, &number, err) &&
               pickle_push_integer(machine, PICKLE_INTEGER, (int32_t)(uint32_t)number, err);
    case BININT1:
        return pickle_take_number(machine, 1, &number, err) &&
               pickle_push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
    case BININT2:
        return pickle_take_number(machine, 2, &number, err) &&
               pickle_push_integer(machine, PICKLE_INTEGER, (int64_t)number, err);
    case LONG1:
        return pickle_take_number(machine, 1, &number, err) && pickle_push_long(machine, number, err);
    case LONG4:
        return pickle_take_number(machine, 4, &number, err) && pickle_push_long(machine, number, err);
    case FLOAT:
        return pickle_push_float_line(machine, err);
    default:
        return pickle_push_binary_float(machine, err);
    }
}

static bool run_text(struct pickle_machine *machine, int opcode, struct error *err)
{
    switch (opcode) {
    case STRING:
        return pickle_push_literal(machine, err);
    case UNICODE:
        return pickle_push_raw_unicode(machine, err);
    case SHORT_BINSTRING:
    case SHORT_BINUNICODE:
        return pickle_push_counted_text(machine, PICKLE_TEXT, 1, err);
    case BINSTRING:
    case BINUNICODE:
        return pickle_push_counted_text(machine, PICKLE_TEXT, 4, err);
    case BINUNICODE8:
        return pickle_push_counted_text(machine, PICKLE_TEXT, 8, err);
    case SHORT_BINBYTES:
        return pickle_push_counted_text(machine, PICKLE_BYTES, 1, err);
    case BINBYTES:
        return pickle_push_counted_text(machine, PICKLE_BYTES, 4, err);
    default:
        return pickle_push_counted_text(machine, PICKLE_BYTES, 8, err);
    }
}

static bool run_container(struct pickle_machine *machine, int opcode, struct error *err)
{
    const struct pickle_list none = {0};
    switch (opcode) {
    case EMPTY_LIST:
        return pickle_push_container(machine, PICKLE_LIST, &none, err);
    case EMPTY_TUPLE:
        return pickle_push_container(machine, PICKLE_TUPLE, &none, err);
    case EMPTY_DICT:
        return pickle_push_container(machine, PICKLE_DICT, &none, err);
    case EMPTY_SET:
        return pickle_push_container(machine, PICKLE_SET, &none, err);
    case LIST:
        return pickle_push_marked(machine, PICKLE_LIST, err);
    case TUPLE:
        return pickle_push_marked(machine, PICKLE_TUPLE, err);
    case DICT:
        return pickle_push_marked(machine, PICKLE_DICT, err);
    case FROZENSET:
        return pickle_push_marked(machine, PICKLE_SET, err);
    case APPEND:
        return pickle_extend_top(machine, 1, err);
    case SETITEM:
        return pickle_extend_top(machine, 2, err);
    case APPENDS:
    case ADDITEMS:
        return pickle_extend_marked(machine, false, err);
    case SETITEMS:
        return pickle_extend_marked(machine, true, err);
    default:
        return pickle_push_tuple(machine, (uint32_t)(opcode - TUPLE1 + 1), err);
    }
}

static bool run_object(struct pickle_machine *machine, int opcode, struct error *err)
{
    struct pickle_value **values;
    switch (opcode) {
    case GLOBAL:
        return pickle_push_global(machine, err);
    case STACK_GLOBAL:
        return pickle_push_stack_global(machine, err);
    case REDUCE:
    case NEWOBJ:
        return pickle_push_call(machine, 2, err);
    case NEWOBJ_EX:
        return pickle_push_call(machine, 3, err);
    case INST:
    case OBJ:
        return pickle_push_instance(machine, opcode == INST, err);
    case PERSID:
        return pickle_push_persistent_line(machine, err);
    case BINPERSID:
        return pickle_pop(machine, 1, &values, err) && pickle_push_persistent(machine, *values, err);
    default:
        return pickle_set_state(machine, err);
    }
}

static bool run_protocol(struct pickle_machine *machine, struct error *err)
{
    uint64_t number;
    if (!pickle_take_number(machine, 1, &number, err)) return false;
    return number <= HIGHEST_PROTOCOL || pickle_fail(machine, "a protocol above 5", err);
}

static bool run_stack(struct pickle_machine *machine, int opcode, struct error *err)
{
    struct pickle_value **values;
    struct pickle_list marked;
    switch (opcode) {
    case MARK:
        return pickle_push_mark(machine, err);
    case POP_MARK:
        return pickle_pop_mark(machine, &marked, err);
    case POP:
        if (pickle_available(machine) == 0 && machine->mark_count > 0) return pickle_pop_mark(machine, &marked, err);
        return pickle_pop(machine, 1, &values, err);
    default:
        if (pickle_available(machine) == 0) return pickle_fail(machine, "takes more from the stack than is there", err);
        return pickle_push(machine, machine->stack.values[machine->stack.count - 1], err);
    }
}

static bool run_opcode(struct pickle_machine *machine, int opcode, struct error *err)
{
    uint64_t length;
    switch (opcode) {
    case PROTO:
        return run_protocol(machine, err);
    case FRAME: /* its length is skipped: nothing depends on it */
        return pickle_take_number(machine, 8, &length, err);
    case MARK:
    case POP:
    case POP_MARK:
    case DUP:
        return run_stack(machine, opcode, err);
    case NONE:
        return pickle_push(machine, pickle_value_new(machine, PICKLE_NONE, err), err);
    case NEWTRUE:
    case NEWFALSE:
        return pickle_push_integer(machine, PICKLE_BOOL, opcode == NEWTRUE, err);
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

struct pickle_value *pickle_read(struct arena *arena, const struct pickle_source *source, size_t *used,
                                 struct pickle_list *objects, struct error *err)
{
    struct pickle_machine machine = {.arena = arena,
                                     .place = source->place,
                                     .data = source->data,
                                     .size = source->size,
                                     .arena_before = arena->total};
    const unsigned char *opcode;
    for (;;) {
        machine.opcode_at = machine.at;
        if (!pickle_take(&machine, 1, &opcode, err)) return NULL;
        if (*opcode == STOP) break;
        if (!run_opcode(&machine, *opcode, err)) return NULL;
    }
    struct pickle_value **result;
    if (!pickle_pop(&machine, 1, &result, err)) return NULL;
    if (used) *used = machine.at;
    if (objects) *objects = machine.objects;
    if (used || machine.at == source->size) return *result;
    pickle_fail(&machine, "the pickle ends here, but the data go on", err);
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
