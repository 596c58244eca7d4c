/* What the files pickle*.c share: the machine that reads a pickle. Nobody else includes this.
 *
 * pickle.c knows the opcodes. It calls pickle_values.c, which builds what they describe; both use pickle_machine.c: the
 * stack, the input, memory and its limits. No call goes upwards. Errors are ERROR_CORRUPT unless stated otherwise.
 */
#ifndef LSTMD_MODEL_INTEROP_PICKLE_INTERNAL_H
#define LSTMD_MODEL_INTEROP_PICKLE_INTERNAL_H

#include "model/interop/pickle.h"

struct pickle_machine {
    struct arena *arena;
    const char *place; /* of the pickle, for messages */
    const unsigned char *data;
    size_t size, at;     /* bytes; where the next one is read */
    size_t opcode_at;    /* where the opcode began that runs now */
    char *chunk;         /* the free part of a piece of the arena, for small allocations */
    size_t chunk_left;   /* bytes */
    size_t values;       /* made so far */
    size_t arena_before; /* bytes of the arena when reading began */
    struct pickle_list stack;
    struct pickle_list memo;    /* by number; NULL: nothing has this number */
    struct pickle_list objects; /* every PICKLE_PERSISTENT and PICKLE_OBJECT */
    uint32_t *marks;            /* [mark_count] heights of the stack */
    uint32_t mark_count, mark_capacity;
};

/* ---- pickle_machine.c: errors and memory ---- */

/* Both return false. */
bool pickle_fail(const struct pickle_machine *machine, const char *what, struct error *err);
bool pickle_fail_large(const struct pickle_machine *machine, struct error *err); /* ERROR_TOO_LARGE */

/* Zeroed memory of the arena. ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
void *pickle_allocate(struct pickle_machine *machine, size_t bytes, struct error *err);
struct pickle_value *pickle_value_new(struct pickle_machine *machine, enum pickle_kind kind, struct error *err);
bool pickle_list_append(struct pickle_machine *machine, struct pickle_list *list, struct pickle_value *value,
                        struct error *err);

/* ---- the stack ---- */

/* False for NULL, whose error is set already. */
bool pickle_push(struct pickle_machine *machine, struct pickle_value *value, struct error *err);

/* How many values lie above the last mark. Only those may be taken. */
uint32_t pickle_available(const struct pickle_machine *machine);

/* Takes n values off; *first is the lowest. They stay where they are until the next push. */
bool pickle_pop(struct pickle_machine *machine, uint32_t n, struct pickle_value ***first, struct error *err);

bool pickle_push_mark(struct pickle_machine *machine, struct error *err);
/* Takes off the last mark and all values above it. They stay where they are until the next push. */
bool pickle_pop_mark(struct pickle_machine *machine, struct pickle_list *above, struct error *err);

/* ---- the input ---- */

bool pickle_take(struct pickle_machine *machine, size_t n, const unsigned char **bytes, struct error *err);
/* A little-endian number of n <= 8 bytes. */
bool pickle_take_number(struct pickle_machine *machine, size_t n, uint64_t *number, struct error *err);
/* Takes bytes up to a newline, and the newline. *n does not count it. */
bool pickle_take_line(struct pickle_machine *machine, const char **line, size_t *n, struct error *err);

/* ---- pickle_values.c: each takes its operands from the input or the stack, and pushes one value ---- */

bool pickle_push_integer(struct pickle_machine *machine, enum pickle_kind kind, int64_t integer, struct error *err);
/* n bytes of two's complement, the lowest first. */
bool pickle_push_long(struct pickle_machine *machine, uint64_t n, struct error *err);
/* INT and LONG: "12", "12L"; INT also writes "00" and "01" for false and true. */
bool pickle_push_integer_line(struct pickle_machine *machine, bool is_int, struct error *err);
bool pickle_push_float_line(struct pickle_machine *machine, struct error *err);
/* Eight bytes, the highest first. */
bool pickle_push_binary_float(struct pickle_machine *machine, struct error *err);

/* A text or bytes after their length, a number of so many bytes. */
bool pickle_push_counted_text(struct pickle_machine *machine, enum pickle_kind kind, size_t length_bytes,
                              struct error *err);
/* STRING: a Python 2 literal in quotes. */
bool pickle_push_literal(struct pickle_machine *machine, struct error *err);
/* UNICODE: \uXXXX and \UXXXXXXXX are characters; every other byte is a character of Latin-1. */
bool pickle_push_raw_unicode(struct pickle_machine *machine, struct error *err);

/* GLOBAL: the module's name and the class's, a line each. */
bool pickle_push_global(struct pickle_machine *machine, struct error *err);
bool pickle_push_stack_global(struct pickle_machine *machine, struct error *err);
/* REDUCE and NEWOBJ: callable, arguments. NEWOBJ_EX: also keyword arguments, which are dropped. */
bool pickle_push_call(struct pickle_machine *machine, uint32_t operands, struct error *err);
/* INST: the class is named in line; OBJ: it lies below the arguments. */
bool pickle_push_instance(struct pickle_machine *machine, bool in_line, struct error *err);
/* id NULL: false, and its error is set already. */
bool pickle_push_persistent(struct pickle_machine *machine, struct pickle_value *id, struct error *err);
bool pickle_push_persistent_line(struct pickle_machine *machine, struct error *err);
/* BUILD: pushes the object again, with its state. */
bool pickle_set_state(struct pickle_machine *machine, struct error *err);

bool pickle_push_container(struct pickle_machine *machine, enum pickle_kind kind, const struct pickle_list *values,
                           struct error *err);
/* Of the values above the last mark. */
bool pickle_push_marked(struct pickle_machine *machine, enum pickle_kind kind, struct error *err);
bool pickle_push_tuple(struct pickle_machine *machine, uint32_t n, struct error *err);
/* Adds the top n values, or those above the last mark, to the container below them. */
bool pickle_extend_top(struct pickle_machine *machine, uint32_t n, struct error *err);
bool pickle_extend_marked(struct pickle_machine *machine, bool entries, struct error *err);

#endif
