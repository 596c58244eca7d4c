#include "model/generate/pattern.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "base/string_table.h"
#include "base/utf8.h"
#include "model/generate/regex_table.h"

#define NO_SYMBOL UINT32_MAX

struct pattern {
    struct regex_table table;
    size_t V;
    uint32_t eos;       /* TOKEN_NONE: none */
    uint32_t space;     /* symbol before each word except the first; NO_SYMBOL: tokens follow each other directly */
    uint32_t *symbols;  /* of all tokens in a row */
    size_t *first;      /* [V + 1] a token's symbols are symbols[first[v] .. first[v + 1]); none: never allowed */
    bool *alive;        /* [states] tokens reach it, and a match can be reached from it */
    uint64_t *allowed;  /* [states][words] a bit per token */
    size_t words;       /* of a row of `allowed` */
    struct arena arena; /* owns all of these except the table */
};

/* ---- the vocabulary as symbols ---- */

static size_t symbol_length(const char *text, size_t n, bool utf8)
{
    uint32_t code_point;
    return utf8 ? utf8_decode(text, n, &code_point) : 1;
}

/* Appends the symbols of one token; new characters get the next numbers. */
static bool add_token(struct pattern *pattern, struct string_table *alphabet, uint32_t token, struct text_span span,
                      bool utf8, struct error *err)
{
    const char *text = span.text;
    size_t end = pattern->first[token];
    for (size_t i = 0, length; i < span.bytes; i += length) {
        length = symbol_length(text + i, span.bytes - i, utf8);
        if (length == 0) { /* not a character: no matching text contains the token */
            end = pattern->first[token];
            break;
        }
        if (!string_table_insert(alphabet, text + i, length, &pattern->symbols[end++], NULL, err)) return false;
    }
    pattern->first[token + 1] = end;
    return true;
}

static size_t count_bytes(const struct vocabulary *vocabulary)
{
    size_t total = 0;
    for (uint32_t v = 0; v < vocabulary_size(vocabulary); v++) {
        size_t n;
        vocabulary_token(vocabulary, v, &n);
        total += n;
    }
    return total;
}

static bool read_vocabulary(struct pattern *pattern, const struct vocabulary *vocabulary,
                            const struct pattern_options *options, struct string_table *alphabet, struct error *err)
{
    const bool utf8 = vocabulary_level(vocabulary) != TOKEN_LEVEL_BYTE;
    const bool words = vocabulary_level(vocabulary) == TOKEN_LEVEL_WORD;
    pattern->V = vocabulary_size(vocabulary);
    pattern->eos = vocabulary_eos(vocabulary);
    pattern->space = NO_SYMBOL;
    pattern->symbols = arena_alloc(&pattern->arena, count_bytes(vocabulary), sizeof(uint32_t), "a pattern", err);
    pattern->first = arena_alloc(&pattern->arena, pattern->V + 1, sizeof(size_t), "a pattern", err);
    bool *forbidden = arena_alloc(&pattern->arena, pattern->V, sizeof *forbidden, "a pattern", err);
    if (!pattern->symbols || !pattern->first || !forbidden) return false;
    for (size_t i = 0; i < options->forbidden_count; i++)
        if (options->forbidden[i] < pattern->V) forbidden[options->forbidden[i]] = true;
    if (words && !string_table_insert(alphabet, " ", 1, &pattern->space, NULL, err)) return false;
    for (uint32_t v = 0; v < pattern->V; v++) {
        struct text_span text;
        text.text = vocabulary_token(vocabulary, v, &text.bytes);
        if (vocabulary_is_special(vocabulary, v) || forbidden[v]) text.bytes = 0;
        if (!add_token(pattern, alphabet, v, text, utf8, err)) return false;
    }
    return true;
}

/* ---- tokens' ways through the table ---- */

static uint32_t step_symbol(const struct pattern *pattern, uint32_t state, uint32_t symbol)
{
    return pattern->table.next[(size_t)state * pattern->table.symbol_count + symbol];
}

uint32_t pattern_next(const struct pattern *pattern, uint32_t state, uint32_t token)
{
    size_t i = pattern->first[token];
    const size_t end = pattern->first[token + 1];
    if (i == end) return REGEX_DEAD;
    if (pattern->space != NO_SYMBOL && state != PATTERN_START) state = step_symbol(pattern, state, pattern->space);
    for (; i < end && state != REGEX_DEAD; i++) state = step_symbol(pattern, state, pattern->symbols[i]);
    return state;
}

/* All tokens that lead anywhere from a state, in the order of their symbols: tokens that begin alike are neighbours, so
 * what they share is followed once, and where that leads nowhere, all of them are passed over. */
struct walk {
    const struct pattern *pattern;
    uint32_t *order;  /* [count] tokens, sorted by their symbols */
    uint32_t *shared; /* [count] symbols that order[i] has in common with order[i - 1] */
    uint32_t *tails;  /* the other symbols of all tokens, in this order */
    uint32_t *ends;   /* [count] tails[.. ends[i]) are those of order[i] and of the tokens before it */
    uint32_t *states; /* [longest + 1] states[d]: after d symbols of the token that was followed last */
    size_t count, steps;
    size_t next; /* index in `order` */
    size_t dead; /* so many symbols of that token lead nowhere; SIZE_MAX: it leads somewhere */
};

static size_t token_symbols(const struct pattern *pattern, uint32_t token, const uint32_t **symbols)
{
    *symbols = pattern->symbols + pattern->first[token];
    return pattern->first[token + 1] - pattern->first[token];
}

/* How many symbols two tokens have in common at their beginnings. */
static size_t common_symbols(const struct pattern *pattern, uint32_t a, uint32_t b)
{
    const uint32_t *x, *y;
    const size_t n = token_symbols(pattern, a, &x), m = token_symbols(pattern, b, &y);
    size_t i = 0;
    while (i < n && i < m && x[i] == y[i]) i++;
    return i;
}

static int compare_tokens(const void *a, const void *b, void *context)
{
    const struct pattern *pattern = context;
    const uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b, *x, *y;
    const size_t n = token_symbols(pattern, one, &x), m = token_symbols(pattern, other, &y);
    const size_t i = common_symbols(pattern, one, other);
    if (i < n && i < m) return x[i] < y[i] ? -1 : 1;
    return n < m ? -1 : n > m;
}

static void walk_close(struct walk *walk)
{
    free(walk->order);
    free(walk->shared);
    free(walk->tails);
    free(walk->ends);
    free(walk->states);
}

static void walk_sort(struct walk *walk, struct pattern *pattern)
{
    uint32_t end = 0;
    for (uint32_t v = 0; v < pattern->V; v++)
        if (pattern->first[v] < pattern->first[v + 1]) walk->order[walk->count++] = v;
    qsort_r(walk->order, walk->count, sizeof *walk->order, compare_tokens, pattern);
    for (size_t i = 0; i < walk->count; i++) {
        const uint32_t *symbols;
        const size_t n = token_symbols(pattern, walk->order[i], &symbols);
        const size_t shared = i > 0 ? common_symbols(pattern, walk->order[i - 1], walk->order[i]) : 0;
        walk->shared[i] = (uint32_t)shared;
        memcpy(walk->tails + end, symbols + shared, (n - shared) * sizeof *symbols);
        walk->ends[i] = end += (uint32_t)(n - shared);
    }
}

/* Close with walk_close(), also after a failure. */
static bool walk_open(struct walk *walk, struct pattern *pattern, struct error *err)
{
    const size_t symbols = pattern->first[pattern->V], size = sizeof(uint32_t);
    size_t longest = 0;
    for (size_t v = 0; v < pattern->V; v++)
        if (pattern->first[v + 1] - pattern->first[v] > longest) longest = pattern->first[v + 1] - pattern->first[v];
    *walk = (struct walk){.pattern = pattern,
                          .order = calloc(pattern->V + 1, size),
                          .shared = calloc(pattern->V + 1, size),
                          .tails = calloc(symbols + 1, size),
                          .ends = calloc(pattern->V + 1, size),
                          .states = calloc(longest + 1, size)};
    if (!walk->order || !walk->shared || !walk->tails || !walk->ends || !walk->states)
        return error_set_no_memory(err, (3 * pattern->V + symbols + longest) * size, "a pattern");
    walk_sort(walk, pattern);
    return true;
}

static void walk_begin(struct walk *walk, uint32_t from)
{
    const struct pattern *pattern = walk->pattern;
    const bool spaced = pattern->space != NO_SYMBOL && from != PATTERN_START;
    walk->states[0] = spaced ? step_symbol(pattern, from, pattern->space) : from;
    walk->next = walk->states[0] == REGEX_DEAD ? walk->count : 0;
    walk->dead = SIZE_MAX;
}

/* The next token that leads to a state, which is returned; REGEX_DEAD: there is none. */
static uint32_t walk_next(struct walk *walk, uint32_t *token)
{
    while (walk->next < walk->count) {
        const size_t i = walk->next++;
        size_t depth = walk->shared[i];
        walk->steps++;
        if (depth >= walk->dead) continue;
        uint32_t state = walk->states[depth];
        for (uint32_t k = i > 0 ? walk->ends[i - 1] : 0; k < walk->ends[i] && state != REGEX_DEAD; k++) {
            state = step_symbol(walk->pattern, state, walk->tails[k]);
            walk->states[++depth] = state;
            walk->steps++;
        }
        walk->dead = state == REGEX_DEAD ? depth : SIZE_MAX;
        *token = walk->order[i];
        if (state != REGEX_DEAD) return state;
    }
    return REGEX_DEAD;
}

/* Edges between states: a token leads from from[i] to to[i]. In the order of discovery. */
struct edges {
    uint32_t *from, *to;
    size_t count, capacity;
    uint32_t *queue; /* [states] the reached states, in order */
    uint32_t *seen;  /* [states] 1 + the last state that leads to it; 0: not reached. Later forbid_dead_ends()'s */
    size_t reached;
};

static bool add_edge(struct edges *edges, uint32_t from, uint32_t to, struct error *err)
{
    if (edges->count == edges->capacity) {
        const size_t capacity = edges->capacity == 0 ? 256 : edges->capacity * 2;
        uint32_t *a = realloc(edges->from, capacity * sizeof *a);
        if (a) edges->from = a;
        uint32_t *b = realloc(edges->to, capacity * sizeof *b);
        if (b) edges->to = b;
        if (!a || !b) return error_set_no_memory(err, capacity * sizeof *a, "a pattern");
        edges->capacity = capacity;
    }
    if (edges->seen[to] == 0) edges->queue[edges->reached++] = to;
    edges->seen[to] = from + 1;
    edges->from[edges->count] = from;
    edges->to[edges->count++] = to;
    return true;
}

static void allow_token(struct pattern *pattern, uint32_t state, uint32_t token)
{
    pattern->allowed[state * pattern->words + token / 64] |= UINT64_C(1) << token % 64;
}

/* Finds the states that tokens reach, and allows whatever leads to a state. */
static bool follow_tokens(struct pattern *pattern, struct walk *walk, struct edges *edges, size_t max_steps,
                          struct error *err)
{
    edges->queue[edges->reached++] = PATTERN_START;
    edges->seen[PATTERN_START] = UINT32_MAX;
    for (size_t i = 0; i < edges->reached; i++) {
        const uint32_t from = edges->queue[i];
        uint32_t token;
        walk_begin(walk, from);
        for (uint32_t to; (to = walk_next(walk, &token)) != REGEX_DEAD;) {
            allow_token(pattern, from, token);
            if (edges->seen[to] != from + 1 && !add_edge(edges, from, to, err)) return false;
        }
        if (walk->steps > max_steps)
            return error_set(err, ERROR_TOO_LARGE, "the vocabulary's tokens take more than %zu steps through it",
                             max_steps);
    }
    return true;
}

/* Marks the states that are alive: the text is complete, or a token leads to a state that is alive. */
static void find_alive(struct pattern *pattern, const struct edges *edges)
{
    for (size_t i = 0; i < edges->reached; i++)
        pattern->alive[edges->queue[i]] = pattern->table.complete[edges->queue[i]];
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = edges->count; i-- > 0;) {
            if (pattern->alive[edges->from[i]] || !pattern->alive[edges->to[i]]) continue;
            pattern->alive[edges->from[i]] = changed = true;
        }
    }
}

/* Takes back the tokens that lead to a state which is not alive: seldom any. */
static void forbid_dead_ends(struct pattern *pattern, struct walk *walk, struct edges *edges)
{
    const size_t states = pattern->table.state_count;
    memset(edges->seen, 0, states * sizeof *edges->seen);
    for (size_t i = 0; i < edges->count; i++)
        if (!pattern->alive[edges->to[i]]) edges->seen[edges->from[i]] = 1;
    for (uint32_t state = 0; state < states; state++) {
        uint32_t token;
        if (pattern->alive[state] && !edges->seen[state]) continue;
        memset(pattern->allowed + state * pattern->words, 0, pattern->words * sizeof *pattern->allowed);
        if (!pattern->alive[state]) continue;
        walk_begin(walk, state);
        for (uint32_t to; (to = walk_next(walk, &token)) != REGEX_DEAD;)
            if (pattern->alive[to]) allow_token(pattern, state, token);
    }
}

static bool find_ways(struct pattern *pattern, const struct pattern_options *options, struct error *err)
{
    const size_t states = pattern->table.state_count;
    struct walk walk;
    pattern->words = (pattern->V + 63) / 64;
    pattern->alive = arena_alloc(&pattern->arena, states, sizeof(bool), "a pattern", err);
    pattern->allowed = arena_alloc(&pattern->arena, states, pattern->words * sizeof(uint64_t), "a pattern", err);
    if (!pattern->alive || !pattern->allowed) return false;
    struct edges edges = {.queue = calloc(states, sizeof(uint32_t)), .seen = calloc(states, sizeof(uint32_t))};
    bool found = walk_open(&walk, pattern, err) &&
                 ((edges.queue && edges.seen) || error_set_no_memory(err, states * sizeof(uint32_t), "a pattern"));
    found = found && follow_tokens(pattern, &walk, &edges, options->max_steps, err);
    if (found) {
        find_alive(pattern, &edges);
        forbid_dead_ends(pattern, &walk, &edges);
    }
    walk_close(&walk);
    free(edges.queue);
    free(edges.seen);
    free(edges.from);
    free(edges.to);
    return found;
}

/* ---- life ---- */

static bool check_possible(const struct pattern *pattern, const struct pattern_options *options, struct error *err)
{
    if (!pattern->alive[PATTERN_START])
        return error_set(err, ERROR_INVALID, "the tokens of the model's vocabulary%s make no text that matches",
                         options->forbidden_count > 0 ? " that logit_bias allows" : "");
    return !pattern_is_final(pattern, PATTERN_START) ||
           error_set(err, ERROR_INVALID, "nothing but the empty text matches");
}

struct pattern *pattern_new(const char *regex, size_t n, const struct vocabulary *vocabulary,
                            const struct pattern_options *options, struct error *err)
{
    struct pattern *pattern = calloc(1, sizeof *pattern);
    struct string_table alphabet = {0};
    const struct regex_symbols symbols = {&alphabet, vocabulary_level(vocabulary) != TOKEN_LEVEL_BYTE};
    if (!pattern) {
        error_set_no_memory(err, sizeof *pattern, "a pattern");
        return NULL;
    }
    const bool made = read_vocabulary(pattern, vocabulary, options, &alphabet, err) &&
                      regex_table_build(&pattern->table, regex, n, &symbols, options->max_states, err) &&
                      find_ways(pattern, options, err) && check_possible(pattern, options, err);
    string_table_free(&alphabet);
    if (made) return pattern;
    pattern_free(pattern);
    return NULL;
}

void pattern_free(struct pattern *pattern)
{
    if (!pattern) return;
    regex_table_free(&pattern->table);
    arena_free(&pattern->arena);
    free(pattern);
}

/* ---- choices ---- */

/* Whether tokens can make this text. It searches all ways to cut the text, because tokens may overlap ("a", "ab",
 * "b"). */
static bool can_write(const struct pattern *pattern, const struct text_span *choice,
                      const struct vocabulary *vocabulary, bool *reachable)
{
    const bool words = pattern->space != NO_SYMBOL;
    memset(reachable, 0, choice->bytes + 1);
    reachable[0] = true;
    for (size_t at = 0; at < choice->bytes; at++) {
        const size_t begin = at + (words && at > 0 && choice->text[at] == ' ');
        if (!reachable[at] || (words && at > 0 && begin == at)) continue;
        for (uint32_t v = 0; v < pattern->V; v++) {
            size_t n;
            const char *text = vocabulary_token(vocabulary, v, &n);
            if (pattern->first[v] == pattern->first[v + 1] || n > choice->bytes - begin) continue;
            if (memcmp(choice->text + begin, text, n) == 0) reachable[begin + n] = true;
        }
    }
    return reachable[choice->bytes];
}

static bool check_choices(const struct pattern *pattern, const struct text_span *choices, size_t count,
                          const struct vocabulary *vocabulary, struct error *err)
{
    bool possible = true;
    for (size_t i = 0; possible && i < count; i++) {
        bool *reachable = calloc(choices[i].bytes + 1, sizeof *reachable);
        if (!reachable) return error_set_no_memory(err, choices[i].bytes + 1, "a pattern");
        possible = can_write(pattern, &choices[i], vocabulary, reachable) ||
                   error_set(err, ERROR_INVALID, "choice %zu: the tokens of the model's vocabulary cannot write it", i);
        free(reachable);
    }
    return possible;
}

/* Writes the choice as an expression: a backslash before every ASCII byte that is not a letter or digit. */
static size_t quote_choice(const struct text_span *choice, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < choice->bytes; i++) {
        const unsigned char c = (unsigned char)choice->text[i];
        const bool plain = c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (c < 0x20 || c == 0x7F) {
            n += (size_t)sprintf(out + n, "\\x%02x", c);
        } else {
            if (!plain) out[n++] = '\\';
            out[n++] = (char)c;
        }
    }
    return n;
}

struct pattern *pattern_new_choices(const struct text_span *choices, size_t count, const struct vocabulary *vocabulary,
                                    const struct pattern_options *options, struct error *err)
{
    size_t bytes = 1, n = 0;
    for (size_t i = 0; i < count; i++) bytes += 4 * choices[i].bytes + 1;
    char *regex = malloc(bytes);
    if (!regex) {
        error_set_no_memory(err, bytes, "the choices");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0) regex[n++] = '|';
        n += quote_choice(&choices[i], regex + n);
    }
    regex[n] = '\0';
    struct pattern *pattern = pattern_new(regex, n, vocabulary, options, err);
    free(regex);
    if (!pattern || check_choices(pattern, choices, count, vocabulary, err)) return pattern;
    pattern_free(pattern);
    return NULL;
}

/* ---- use ---- */

bool pattern_is_complete(const struct pattern *pattern, uint32_t state)
{
    return pattern->table.complete[state];
}

bool pattern_is_final(const struct pattern *pattern, uint32_t state)
{
    const uint64_t *row = pattern->allowed + state * pattern->words;
    for (size_t i = 0; i < pattern->words; i++)
        if (row[i] != 0) return false;
    return true;
}

bool pattern_allows(const struct pattern *pattern, uint32_t state, uint32_t token)
{
    return pattern->allowed[state * pattern->words + token / 64] >> token % 64 & 1;
}

void pattern_mask(const struct pattern *pattern, uint32_t state, float *logits)
{
    const uint64_t *row = pattern->allowed + state * pattern->words;
    const float eos = pattern->eos != TOKEN_NONE ? logits[pattern->eos] : 0;
    for (size_t v = 0; v < pattern->V; v++) logits[v] = row[v / 64] >> v % 64 & 1 ? logits[v] : -INFINITY;
    if (pattern->eos != TOKEN_NONE && pattern->table.complete[state]) logits[pattern->eos] = eos;
}

uint32_t pattern_state_count(const struct pattern *pattern)
{
    return pattern->table.state_count;
}
