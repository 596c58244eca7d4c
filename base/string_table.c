#include "base/string_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

/* FNV-1a (Fowler, Noll and Vo), 64 bits folded to 32. Its simple loop is fast for short strings such as words. */
static uint32_t hash_bytes(const char *text, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ (h >> 32));
}

const char *string_table_get(const struct string_table *table, uint32_t index, size_t *n)
{
    size_t start = index == 0 ? 0 : table->ends[index - 1];
    *n = table->ends[index] - start - 1;
    return table->text + start;
}

static bool grow_text(struct string_table *table, size_t n, struct error *err)
{
    size_t need, capacity;
    if (!size_add(table->text_size, n, &need) || !size_add(need, need / 2 + 64, &capacity))
        return error_set(err, ERROR_TOO_LARGE, "the distinct words are too long to count");
    char *text = realloc(table->text, capacity);
    if (!text) return error_set_no_memory(err, capacity, "token texts");
    table->text = text;
    table->text_capacity = capacity;
    return true;
}

static bool grow_ends(struct string_table *table, struct error *err)
{
    if (table->count >= STRING_TABLE_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %u distinct strings", (unsigned)STRING_TABLE_MAX);
    uint32_t capacity = table->capacity ? 2 * table->capacity : 64;
    size_t bytes = capacity * sizeof *table->ends;
    size_t *ends = realloc(table->ends, bytes);
    if (!ends) return error_set_no_memory(err, bytes, "token offsets");
    table->ends = ends;
    table->capacity = capacity;
    return true;
}

bool string_table_append(struct string_table *table, const char *text, size_t n, struct error *err)
{
    if (n >= table->text_capacity - table->text_size && !grow_text(table, n + 1, err)) return false;
    if (table->count == table->capacity && !grow_ends(table, err)) return false;
    if (n) memcpy(table->text + table->text_size, text, n);
    table->text[table->text_size + n] = '\0';
    table->text_size += n + 1;
    table->ends[table->count++] = table->text_size;
    return true;
}

/* The slot of the string, or the empty slot for it. */
static struct string_table_slot *find_slot(const struct string_table *table, uint32_t hash, const char *text, size_t n)
{
    uint32_t mask = table->slot_count - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct string_table_slot *slot = &table->slots[i];
        if (slot->number == 0) return slot;
        if (slot->hash != hash) continue;
        size_t length;
        const char *found = string_table_get(table, slot->number - 1, &length);
        if (length == n && memcmp(found, text, n) == 0) return slot;
    }
}

static bool grow_slots(struct string_table *table, struct error *err)
{
    uint32_t slot_count = table->slot_count ? 2 * table->slot_count : 128;
    struct string_table_slot *slots = calloc(slot_count, sizeof *slots);
    if (!slots) return error_set_no_memory(err, slot_count * sizeof *slots, "the index of words");
    for (uint32_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i].number == 0) continue;
        uint32_t to = table->slots[i].hash & (slot_count - 1);
        while (slots[to].number) to = (to + 1) & (slot_count - 1);
        slots[to] = table->slots[i];
    }
    free(table->slots);
    table->slots = slots;
    table->slot_count = slot_count;
    return true;
}

bool string_table_insert(struct string_table *table, const char *text, size_t n, uint32_t *index, bool *added,
                         struct error *err)
{
    if (table->used >= table->slot_count / 2 && !grow_slots(table, err)) return false;
    uint32_t hash = hash_bytes(text, n);
    struct string_table_slot *slot = find_slot(table, hash, text, n);
    bool fresh = slot->number == 0;
    if (fresh) {
        if (!string_table_append(table, text, n, err)) return false;
        *slot = (struct string_table_slot){.hash = hash, .number = table->count};
        table->used++;
    }
    *index = slot->number - 1;
    if (added) *added = fresh;
    return true;
}

uint32_t string_table_find(const struct string_table *table, const char *text, size_t n)
{
    if (table->slot_count == 0) return STRING_TABLE_NONE;
    const struct string_table_slot *slot = find_slot(table, hash_bytes(text, n), text, n);
    return slot->number - 1; /* an empty slot's 0 becomes STRING_TABLE_NONE */
}

void string_table_free(struct string_table *table)
{
    free(table->text);
    free(table->ends);
    free(table->slots);
    memset(table, 0, sizeof *table);
}
