/* A regular expression as a table: the next state for each state and symbol, and the states in which a match is
 * complete.
 *
 * libpcre2 does the matching: the table holds the results of pcre2_dfa_match() for each of its states and each symbol.
 * So a text costs one look-up per symbol, and its highest cost is known before its first token. The expression must
 * match the whole text.
 *
 * The syntax is that of PCRE2 (pcre2pattern(3)) without the parts that a finite table cannot hold or that look beyond
 * the next symbol: look-around, \b, \B, \A, \G, \Z, \K, \C, \X, \R, (?m), back references, recursion, atomic groups,
 * possessive quantifiers, verbs and conditions.
 *
 * Immutable once built, so thread-safe.
 */
#ifndef LSTMD_MODEL_GENERATE_REGEX_TABLE_H
#define LSTMD_MODEL_GENERATE_REGEX_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/string_table.h"

#define REGEX_DEAD UINT32_MAX /* no continuation of the text matches */

/* The symbols of the text, all different: each is a UTF-8 character, or a byte if utf8 is false. */
struct regex_symbols {
    const struct string_table *text; /* [count] 1 .. 4 bytes each */
    bool utf8;
};

struct regex_table {
    uint32_t state_count; /* state 0 is the start */
    uint32_t symbol_count;
    uint32_t *next; /* [state_count][symbol_count] a state or REGEX_DEAD */
    bool *complete; /* [state_count] the text so far matches */
};

/* regex: [n] and a NUL. Errors: ERROR_INVALID (with the offset in the expression), ERROR_TOO_LARGE (more than
 * max_states states, or too many alternatives at once), ERROR_NO_MEMORY. Free with regex_table_free(), also after a
 * failure. */
bool regex_table_build(struct regex_table *table, const char *regex, size_t n, const struct regex_symbols *symbols,
                       uint32_t max_states, struct error *err);
void regex_table_free(struct regex_table *table);

const char *regex_library(void); /* "10.42 2022-12-11" */

#endif
