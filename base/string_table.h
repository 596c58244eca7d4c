/* A table of byte strings, numbered in the order of their addition. A hash index finds the inserted ones.
 *
 * Strings have explicit lengths (they may hold NUL bytes) and lie in one block, each with a NUL after it. `struct
 * string_table t = {0};` is empty; string_table_free() makes it so again. Pointers to strings hold until the next
 * addition. Threads may read a table together while nobody changes it.
 */
#ifndef LSTMD_BASE_STRING_TABLE_H
#define LSTMD_BASE_STRING_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STRING_TABLE_NONE UINT32_MAX
#define STRING_TABLE_MAX  (UINT32_C(1) << 30) /* strings; more is ERROR_TOO_LARGE */

struct string_table_slot {
    uint32_t hash, number; /* number: index + 1; 0: empty slot */
};

struct string_table {
    char *text;
    size_t text_size, text_capacity;
    size_t *ends; /* [count] offset after each string's NUL */
    uint32_t count, capacity;
    struct string_table_slot *slots; /* open addressing, linear probing, at most half full */
    uint32_t slot_count;             /* a power of two, or 0 */
    uint32_t used;
};

/* Adds a string without an entry in the hash index: string_table_find() does not find it. Its index is the count
 * before. */
bool string_table_append(struct string_table *table, const char *text, size_t n, struct error *err);

/* Finds the string, or adds it; *added (NULL allowed) says which. */
bool string_table_insert(struct string_table *table, const char *text, size_t n, uint32_t *index, bool *added,
                         struct error *err);

uint32_t string_table_find(const struct string_table *table, const char *text, size_t n);

/* index < count. */
const char *string_table_get(const struct string_table *table, uint32_t index, size_t *n);

void string_table_free(struct string_table *table);

#endif
