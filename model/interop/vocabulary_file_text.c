/* Counts the text that a model was trained on again, for its vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/interop/vocabulary_file_internal.h"

/* Turns \r\n and \r into \n, in place. Returns the new length. */
static size_t unify_newlines(char *text, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n') continue;
        text[used++] = text[i] == '\r' ? '\n' : text[i];
    }
    return used;
}

/* The tokens of a text, in the order of a vocabulary that training would build: falling count, ties by first
 * appearance. */
static struct vocabulary *count_tokens(const struct vocabulary_options *options, const char *text, size_t n,
                                       struct error *err)
{
    struct vocabulary_builder *builder = vocabulary_builder_new(options, err);
    if (!builder) return NULL;
    if (vocabulary_builder_add(builder, text, n, err)) return vocabulary_builder_finish(builder, err);
    vocabulary_builder_free(builder);
    return NULL;
}

/* Compares by code point, which is the order of the bytes of UTF-8. */
static int compare_tokens(const void *a, const void *b)
{
    const json_t *first = *(json_t *const *)a, *second = *(json_t *const *)b;
    const size_t n = json_string_length(first), m = json_string_length(second);
    const int order = memcmp(json_string_value(first), json_string_value(second), n < m ? n : m);
    return order != 0 ? order : (n > m) - (n < m);
}

static bool sort_tokens(json_t **tokens, struct error *err)
{
    const size_t count = json_array_size(*tokens);
    json_t **list = malloc((count + 1) * sizeof *list), *sorted = json_array();
    bool ok = list && sorted;
    for (size_t i = 0; ok && i < count; i++) list[i] = json_array_get(*tokens, i);
    if (ok) qsort(list, count, sizeof *list, compare_tokens);
    for (size_t i = 0; ok && i < count; i++) ok = json_array_append(sorted, list[i]) == 0;
    free(list);
    if (ok) {
        json_decref(*tokens);
        *tokens = sorted;
        return true;
    }
    json_decref(sorted);
    return interop_vocabulary_no_memory(err);
}

static bool put_counted(struct interop_draft *draft, const struct vocabulary *counted, struct error *err)
{
    for (uint32_t id = 0; id < vocabulary_size(counted); id++) {
        size_t n;
        const char *text = vocabulary_token(counted, id, &n);
        if (vocabulary_is_special(counted, id)) continue;
        if (json_array_append_new(draft->tokens, json_stringn(text, n)) != 0) return interop_vocabulary_no_memory(err);
    }
    return true;
}

static struct vocabulary *from_counted(struct interop_draft *draft, const struct vocabulary *counted,
                                       enum interop_order order, struct error *err)
{
    if (!put_counted(draft, counted, err)) return NULL;
    if (order == INTEROP_ORDER_SORTED ? !sort_tokens(&draft->tokens, err) : !interop_draft_insert_pad(draft, err))
        return NULL;
    return interop_draft_finish(draft, err);
}

struct vocabulary *interop_vocabulary_from_text(const char *path, enum interop_order order, bool lower,
                                                const struct interop_wanted *wanted, struct error *err)
{
    char *text;
    size_t n;
    const bool words = wanted->level == INTEROP_LEVEL_WORD;
    struct interop_draft draft = {.place = path, .wanted = wanted, .lower = lower, .tokens = json_array()};
    draft.level = words ? INTEROP_LEVEL_WORD : INTEROP_LEVEL_CHAR;
    draft.filters = order == INTEROP_ORDER_SORTED ? INTEROP_WHITE_SPACE : VOCABULARY_KERAS_FILTERS;
    const struct vocabulary_options options = {
        .level = words ? TOKEN_LEVEL_WORD : TOKEN_LEVEL_CHAR, .lower = lower, .filters = draft.filters};
    struct vocabulary *vocabulary = NULL, *counted = NULL;
    if (!draft.tokens) {
        interop_vocabulary_no_memory(err);
    } else if (file_read(path, SIZE_MAX - 1, &text, &n, err)) {
        counted = count_tokens(&options, text, unify_newlines(text, n), err);
        free(text);
        if (counted)
            vocabulary = from_counted(&draft, counted, order, err);
        else
            error_add_context(err, "%s", path);
    }
    vocabulary_free(counted);
    json_decref(draft.tokens);
    return vocabulary;
}
