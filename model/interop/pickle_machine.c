/* The machine that reads a pickle: its memory and limits, its stack, its input. */
#include <string.h>

#include "base/size.h"
#include "model/interop/pickle_internal.h"

#define CHUNK_SIZE ((size_t)64 << 10) /* bytes that the arena gives at once */

/* ---- errors and memory ---- */

bool pickle_fail(const struct pickle_machine *machine, const char *what, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s: pickle, byte %zu: %s", machine->place, machine->opcode_at, what);
}

bool pickle_fail_large(const struct pickle_machine *machine, struct error *err)
{
    return error_set(err, ERROR_TOO_LARGE, "%s: pickle, byte %zu: more values or memory than are read", machine->place,
                     machine->opcode_at);
}

void *pickle_allocate(struct pickle_machine *machine, size_t bytes, struct error *err)
{
    bytes = size_round_up(bytes > 0 ? bytes : 1, _Alignof(max_align_t));
    if (bytes > machine->chunk_left) {
        const size_t wanted = bytes > CHUNK_SIZE / 4 ? bytes : CHUNK_SIZE;
        if (machine->arena->total - machine->arena_before + wanted > PICKLE_MAX_MEMORY) {
            pickle_fail_large(machine, err);
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

bool pickle_list_append(struct pickle_machine *machine, struct pickle_list *list, struct pickle_value *value,
                        struct error *err)
{
    if (list->count == list->capacity) {
        if (list->capacity >= PICKLE_MAX_VALUES) return pickle_fail_large(machine, err);
        const uint32_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct pickle_value **values = pickle_allocate(machine, capacity * sizeof *values, err);
        if (!values) return false;
        if (list->count > 0) memcpy(values, list->values, list->count * sizeof *values);
        list->values = values;
        list->capacity = capacity;
    }
    list->values[list->count++] = value;
    return true;
}

struct pickle_value *pickle_value_new(struct pickle_machine *machine, enum pickle_kind kind, struct error *err)
{
    if (++machine->values > PICKLE_MAX_VALUES) {
        pickle_fail_large(machine, err);
        return NULL;
    }
    struct pickle_value *value = pickle_allocate(machine, sizeof *value, err);
    if (value) value->kind = kind;
    return value;
}

/* ---- the stack ---- */

bool pickle_push(struct pickle_machine *machine, struct pickle_value *value, struct error *err)
{
    return value && pickle_list_append(machine, &machine->stack, value, err);
}

uint32_t pickle_available(const struct pickle_machine *machine)
{
    return machine->stack.count - (machine->mark_count ? machine->marks[machine->mark_count - 1] : 0);
}

bool pickle_pop(struct pickle_machine *machine, uint32_t n, struct pickle_value ***first, struct error *err)
{
    if (!machine->stack.values || pickle_available(machine) < n)
        return pickle_fail(machine, "takes more from the stack than is there", err);
    machine->stack.count -= n;
    *first = machine->stack.values + machine->stack.count;
    return true;
}

bool pickle_push_mark(struct pickle_machine *machine, struct error *err)
{
    if (machine->mark_count == machine->mark_capacity) {
        if (machine->mark_capacity >= PICKLE_MAX_VALUES) return pickle_fail_large(machine, err);
        const uint32_t capacity = machine->mark_capacity ? machine->mark_capacity * 2 : 16;
        uint32_t *marks = pickle_allocate(machine, capacity * sizeof *marks, err);
        if (!marks) return false;
        if (machine->mark_count > 0) memcpy(marks, machine->marks, machine->mark_count * sizeof *marks);
        machine->marks = marks;
        machine->mark_capacity = capacity;
    }
    machine->marks[machine->mark_count++] = machine->stack.count;
    return true;
}

bool pickle_pop_mark(struct pickle_machine *machine, struct pickle_list *above, struct error *err)
{
    if (machine->mark_count == 0) return pickle_fail(machine, "needs a mark and there is none", err);
    const uint32_t mark = machine->marks[--machine->mark_count];
    const uint32_t count = machine->stack.count - mark;
    *above = (struct pickle_list){.values = count > 0 ? machine->stack.values + mark : NULL, .count = count};
    machine->stack.count = mark;
    return true;
}

/* ---- input ---- */

bool pickle_take(struct pickle_machine *machine, size_t n, const unsigned char **bytes, struct error *err)
{
    if (machine->size - machine->at < n)
        return error_set(err, ERROR_CORRUPT, "%s: pickle, byte %zu: the data end here, inside of the pickle",
                         machine->place, machine->size);
    *bytes = machine->data + machine->at;
    machine->at += n;
    return true;
}

bool pickle_take_number(struct pickle_machine *machine, size_t n, uint64_t *number, struct error *err)
{
    const unsigned char *bytes;
    if (!pickle_take(machine, n, &bytes, err)) return false;
    *number = 0;
    for (size_t i = 0; i < n; i++) *number |= (uint64_t)bytes[i] << 8 * i;
    return true;
}

bool pickle_take_line(struct pickle_machine *machine, const char **line, size_t *n, struct error *err)
{
    const unsigned char *start = machine->data + machine->at;
    const unsigned char *end = memchr(start, '\n', machine->size - machine->at);
    const unsigned char *bytes;
    if (!pickle_take(machine, end ? (size_t)(end - start) + 1 : SIZE_MAX, &bytes, err)) return false;
    *line = (const char *)start;
    *n = (size_t)(end - start);
    return true;
}
