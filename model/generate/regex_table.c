#include "model/generate/regex_table.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/size.h"
#include "base/utf8.h"

/* Between a partial match and its restart, pcre2_dfa_match() keeps its live alternatives in the workspace. Source:
 * pcre2_dfa_match.c of PCRE2 10.42, "stateblock" and the start of internal_dfa_match(): [0] says which half holds them,
 * [1] is their number, and each is a block of three numbers. Equal blocks mean the same state for every text. If a
 * version of the library stores them in another way, tests/unit/generate/test_pattern.c fails. */
enum {
    BLOCK = 3,                                   /* int per alternative */
    HEAD = 2,                                    /* int before the halves */
    ALTERNATIVES = 1000,                         /* alive at once, at most */
    WORKSPACE = HEAD + 2 * BLOCK * ALTERNATIVES, /* int in the workspace */
    MAX_BYTES = 65536,                           /* of an expression, or of all choices of a request */
    PARENTHESES = 100,                           /* depth of nested groups */
    MATCH_LIMIT = 100000,                        /* internal calls per symbol; accepted expressions need far fewer */
};

struct builder {
    pcre2_code *code;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_match_data *data;
    struct string_table states; /* the sorted blocks of each state; the index is the state */
    int *workspace;             /* [WORKSPACE] */
    int (*blocks)[BLOCK];       /* [ALTERNATIVES] of one state */
    struct regex_table *table;
    uint32_t capacity; /* states that the table has room for */
    uint32_t max_states;
    int largest_count; /* the largest count of repetitions that an alternative distinguishes */
};

const char *regex_library(void)
{
    static _Thread_local char version[64]; /* PCRE2 documents at most 24 */
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    return version;
}

/* ---- what is refused ---- */

static bool regex_refuse_because(size_t offset, const char *what, const char *why, struct error *err)
{
    return error_set(err, ERROR_INVALID, "%s at byte %zu of the expression cannot be used here: %s", what, offset, why);
}

static bool regex_refuse(size_t offset, const char *what, struct error *err)
{
    return regex_refuse_because(offset, what, "a token is chosen by what can follow it, without looking around or back",
                                err);
}

/* Checks an escape sequence. */
static bool check_escape(char letter, size_t offset, struct error *err)
{
    static const char looking[] = "bBAGKZgk", counting[] = "CXR";
    const char shown[] = {'\\', letter, '\0'};
    if (letter != '\0' && strchr(looking, letter)) return regex_refuse(offset, shown, err);
    if (letter != '\0' && strchr(counting, letter))
        return regex_refuse_because(offset, shown, "the text is matched one whole character at a time", err);
    if (letter >= '1' && letter <= '9') return regex_refuse(offset, "a back reference", err);
    return true;
}

/* Checks a part that begins with "(?" or "(*": groups, their names and the options i, n, s and J pass. */
static bool check_group(const char *text, size_t n, size_t offset, struct error *err)
{
    if (n < 3 || text[0] != '(' || (text[1] != '?' && text[1] != '*')) return true;
    if (text[1] == '*') return regex_refuse(offset, "a verb (*...)", err);
    const size_t options = strspn(text + 2, "insJ^-"); /* a NUL ends the expression at the latest */
    const char kind = text[2], more = kind ? text[3] : '\0', end = text[2 + options];
    if (kind == '\'' || (kind == '<' && more != '=' && more != '!') || (kind == 'P' && more == '<')) return true;
    if (end == ':' || end == ')') return true;
    if (kind == '=' || kind == '!' || kind == '<') return regex_refuse(offset, "look-around", err);
    if (kind == '>') return regex_refuse(offset, "an atomic group", err);
    if (kind == '#') return regex_refuse_because(offset, "a comment", "leave it out", err);
    if (kind && strchr("imsxnJaU^-", kind))
        return regex_refuse_because(offset, "an option", "only i, n, s and J can be set", err);
    return regex_refuse(offset, "recursion, a reference or a condition", err);
}

/* Walks over the expression. In a character class only backslashes matter. */
static bool check_syntax(const char *regex, size_t n, struct error *err)
{
    bool in_class = false, quantified = false;
    for (size_t i = 0; i < n; i++) {
        const char c = regex[i];
        const bool is_quantifier = !in_class && c != '\0' && strchr("*+?}", c);
        if (c == '\\') {
            if (i + 1 < n && regex[i + 1] == 'Q') { /* literal up to \E */
                for (i += 2; i < n && !(regex[i] == '\\' && i + 1 < n && regex[i + 1] == 'E');) i++;
                i++;
            } else if (++i < n && !in_class && !check_escape(regex[i], i - 1, err)) {
                return false;
            }
        } else if (in_class) {
            in_class = c != ']';
        } else if (c == '[') {
            in_class = true;
            if (i + 1 < n && regex[i + 1] == '^') i++;
            if (i + 1 < n && regex[i + 1] == ']') i++; /* at the start of a class it is an ordinary character */
        } else if (c == '+' && quantified) {
            return regex_refuse(i, "a possessive quantifier", err);
        } else if (!check_group(regex + i, n - i, i, err)) {
            return false;
        }
        quantified = is_quantifier && !quantified;
    }
    return true;
}

static bool check_text(const char *regex, size_t n, bool utf8, struct error *err)
{
    const size_t valid = utf8 ? utf8_valid_prefix(regex, n) : n;
    if (n > MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE, "the expression has %zu bytes, at most %d are allowed", n, MAX_BYTES);
    if (valid < n) return error_set(err, ERROR_INVALID, "byte %zu of the expression is not UTF-8", valid);
    return !memchr(regex, '\0', n) || error_set(err, ERROR_INVALID, "the expression contains a NUL; write \\x00");
}

/* ---- compiling ---- */

static bool set_pcre2_error(int code, size_t offset, struct error *err)
{
    PCRE2_UCHAR message[128];
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAPLIMIT ||
        code == 121) /* 121: out of memory while compiling */
        return error_set(err, ERROR_NO_MEMORY, "out of memory for the expression");
    if (pcre2_get_error_message(code, message, sizeof message) < 0) message[0] = '\0';
    if (code > 0) return error_set(err, ERROR_INVALID, "byte %zu of the expression: %s", offset, (const char *)message);
    if (code == PCRE2_ERROR_DFA_WSSIZE || code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_DEPTHLIMIT)
        return error_set(err, ERROR_TOO_LARGE, "the expression has more than %d alternatives at once", ALTERNATIVES);
    return error_set(err, ERROR_INVALID, "the expression cannot be followed symbol by symbol: %s",
                     (const char *)message);
}

static bool compile_text(struct builder *builder, const char *text, size_t n, bool utf8, struct error *err)
{
    const uint32_t options = PCRE2_ANCHORED | PCRE2_NO_AUTO_POSSESS | PCRE2_NO_START_OPTIMIZE |
                             PCRE2_NO_DOTSTAR_ANCHOR | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY |
                             PCRE2_NO_AUTO_CAPTURE | (utf8 ? PCRE2_UTF | PCRE2_UCP : PCRE2_NEVER_UTF);
    int code;
    PCRE2_SIZE offset;
    pcre2_code_free(builder->code);
    builder->code = pcre2_compile((PCRE2_SPTR)text, n, options, &code, &offset, builder->compile);
    return builder->code || set_pcre2_error(code, offset, err);
}

/* Compiles "(?:regex)\z", which matches the whole text. It first compiles the expression alone, because "a)(b" is wrong
 * but becomes valid inside the parentheses. */
static bool compile_regex(struct builder *builder, const char *regex, size_t n, bool utf8, struct error *err)
{
    char *whole;
    if (!compile_text(builder, regex, n, utf8, err)) return false;
    const int size = asprintf(&whole, "(?:%.*s)\\z", (int)n, regex);
    if (size < 0) return error_set(err, ERROR_NO_MEMORY, "out of memory for the expression");
    uint32_t behind = 0;
    const bool compiled = compile_text(builder, whole, (size_t)size, utf8, err);
    free(whole);
    if (compiled) pcre2_pattern_info(builder->code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
    return compiled &&
           (behind == 0 || error_set(err, ERROR_INVALID, "the expression looks back at what stands before"));
}

static bool take_memory(struct builder *builder, struct error *err)
{
    builder->compile = pcre2_compile_context_create(NULL);
    builder->match = pcre2_match_context_create(NULL);
    builder->data = pcre2_match_data_create(1, NULL);
    builder->workspace = calloc(WORKSPACE, sizeof *builder->workspace);
    builder->blocks = calloc(ALTERNATIVES, sizeof *builder->blocks);
    if (!builder->compile || !builder->match || !builder->data || !builder->workspace || !builder->blocks)
        return error_set(err, ERROR_NO_MEMORY, "out of memory for the expression");
    pcre2_set_parens_nest_limit(builder->compile, PARENTHESES);
    pcre2_set_match_limit(builder->match, MATCH_LIMIT);
    pcre2_set_depth_limit(builder->match, PARENTHESES);
    return true;
}

/* ---- states ---- */

/* One more than the largest number of a quantifier. A repetition without an upper bound ("+", "{2,}") counts without
 * end, but only "enough or not" matters to it. */
static int largest_count(const char *regex)
{
    long largest = 0;
    for (const char *p = strchr(regex, '{'); p; p = strchr(p + 1, '{')) {
        char *end;
        const long least = strtol(p + 1, &end, 10), most = *end == ',' ? strtol(end + 1, NULL, 10) : 0;
        largest = least > largest ? least : largest;
        largest = most > largest ? most : largest;
    }
    return largest < INT_MAX ? (int)largest + 1 : INT_MAX;
}

static int compare_blocks(const void *a, const void *b)
{
    const int *x = a, *y = b;
    for (int i = 0; i < BLOCK; i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

static bool grow_table(struct builder *builder, struct error *err)
{
    struct regex_table *table = builder->table;
    const size_t capacity = builder->capacity == 0 ? 16 : (size_t)builder->capacity * 2;
    size_t size;
    if (!size_multiply(capacity, table->symbol_count, &size) || !size_multiply(size, sizeof *table->next, &size))
        return error_set(err, ERROR_TOO_LARGE, "the table of the expression is more than memory can hold");
    uint32_t *next = realloc(table->next, size > 0 ? size : 1);
    if (next) table->next = next;
    bool *complete = realloc(table->complete, capacity * sizeof *complete);
    if (complete) table->complete = complete;
    if (!next || !complete) return error_set_no_memory(err, size, "the table of the expression");
    builder->capacity = (uint32_t)capacity;
    return true;
}

/* Finds or adds the state that the workspace holds. */
static bool find_state(struct builder *builder, uint32_t *state, struct error *err)
{
    const int *workspace = builder->workspace;
    const size_t count = (size_t)workspace[1];
    const int *half = workspace + HEAD + (workspace[0] ? BLOCK * ALTERNATIVES : 0);
    bool added;
    memcpy(builder->blocks, half, count * sizeof *builder->blocks);
    for (size_t i = 0; i < count; i++)
        if (builder->blocks[i][1] > builder->largest_count) builder->blocks[i][1] = builder->largest_count;
    qsort(builder->blocks, count, sizeof *builder->blocks, compare_blocks);
    if (!string_table_insert(&builder->states, (const char *)builder->blocks, count * sizeof *builder->blocks, state,
                             &added, err))
        return false;
    if (!added) return true;
    if (*state >= builder->max_states)
        return error_set(err, ERROR_TOO_LARGE, "the expression has more than %lu states",
                         (unsigned long)builder->max_states);
    return *state < builder->capacity || grow_table(builder, err);
}

static void load_state(struct builder *builder, uint32_t state)
{
    size_t n;
    const char *blocks = string_table_get(&builder->states, state, &n);
    builder->workspace[0] = 0;
    builder->workspace[1] = (int)(n / sizeof *builder->blocks);
    memcpy(builder->workspace + HEAD, blocks, n);
}

static int match_text(struct builder *builder, const char *text, size_t n, uint32_t options)
{
    return pcre2_dfa_match(builder->code, (PCRE2_SPTR)text, n, 0, options | PCRE2_NO_UTF_CHECK, builder->data,
                           builder->match, builder->workspace, WORKSPACE);
}

/* Fills in one row of the table. State 0 is the start, which has no match to restart from. */
static bool fill_row(struct builder *builder, uint32_t state, const struct regex_symbols *symbols, struct error *err)
{
    const uint32_t restart = state == 0 ? 0 : PCRE2_DFA_RESTART | PCRE2_NOTBOL;
    if (state > 0) load_state(builder, state);
    int code = match_text(builder, "", 0, restart);
    builder->table->complete[state] = code >= 0;
    for (uint32_t s = 0; s < symbols->text->count && (code >= 0 || code == PCRE2_ERROR_NOMATCH); s++) {
        uint32_t to = REGEX_DEAD;
        size_t bytes;
        const char *symbol = string_table_get(symbols->text, s, &bytes);
        if (state > 0) load_state(builder, state);
        code = match_text(builder, symbol, bytes, restart | PCRE2_PARTIAL_HARD);
        if (code == PCRE2_ERROR_PARTIAL) {
            if (!find_state(builder, &to, err)) return false;
            code = 0;
        }
        builder->table->next[(size_t)state * symbols->text->count + s] = to;
    }
    return code >= 0 || code == PCRE2_ERROR_NOMATCH || set_pcre2_error(code, 0, err);
}

bool regex_table_build(struct regex_table *table, const char *regex, size_t n, const struct regex_symbols *symbols,
                       uint32_t max_states, struct error *err)
{
    *table = (struct regex_table){.symbol_count = symbols->text->count};
    struct builder builder = {.table = table, .max_states = max_states, .largest_count = largest_count(regex)};
    static const char start[] = "start"; /* five bytes: never equal to a state's blocks */
    bool built = check_text(regex, n, symbols->utf8, err) && check_syntax(regex, n, err) &&
                 take_memory(&builder, err) && compile_regex(&builder, regex, n, symbols->utf8, err) &&
                 string_table_append(&builder.states, start, sizeof start - 1, err) && grow_table(&builder, err);
    for (uint32_t state = 0; built && state < builder.states.count; state++)
        built = fill_row(&builder, state, symbols, err);
    table->state_count = builder.states.count;
    string_table_free(&builder.states);
    pcre2_code_free(builder.code);
    pcre2_match_data_free(builder.data);
    pcre2_match_context_free(builder.match);
    pcre2_compile_context_free(builder.compile);
    free(builder.workspace);
    free(builder.blocks);
    return built;
}

void regex_table_free(struct regex_table *table)
{
    free(table->next);
    free(table->complete);
    *table = (struct regex_table){0};
}
