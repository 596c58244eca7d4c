#include "model/interop/vocabulary_file_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "model/interop/names.h"
#include "model/interop/other.h"
#include "model/interop/pickle.h"
#include "model/interop/python.h"

#define MAX_NESTING 3 /* levels of JSON in strings, and of objects around a vocabulary */

bool interop_vocabulary_no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "out of memory for a vocabulary");
}

/* ---- ids ---- */

static bool refuse_size(const struct interop_draft *draft, size_t count, struct error *err)
{
    const size_t wanted = draft->wanted->size;
    const char *cause = "it does not belong to these weights, or the text is not the one that they were trained on";
    if (count + 1 == wanted)
        cause =
            "usually an id more is reserved for padding or unknown text: put it where the model has it, as <pad> or "
            "<unk>, or give a map with the ids";
    else if (count == wanted + 1)
        cause = "usually the last ids, padding or an unknown token were not counted when the model was made";
    return error_set(err, ERROR_INVALID, "%s: %zu tokens, but the network has %zu: %s", draft->place, count, wanted,
                     cause);
}

bool interop_draft_insert_pad(struct interop_draft *draft, struct error *err)
{
    return json_array_insert_new(draft->tokens, 0, json_string("<pad>")) == 0 || interop_vocabulary_no_memory(err);
}

static bool put_token(struct interop_draft *draft, json_int_t id, const json_t *token, struct error *err)
{
    if (id < 0 || id >= (json_int_t)VOCABULARY_MAX_TOKENS)
        return error_set(err, ERROR_INVALID, "%s: id %lld is not one of a vocabulary", draft->place, (long long)id);
    while (json_array_size(draft->tokens) <= (size_t)id)
        if (json_array_append_new(draft->tokens, json_null()) != 0) return interop_vocabulary_no_memory(err);
    if (!json_is_null(json_array_get(draft->tokens, (size_t)id)))
        return error_set(err, ERROR_INVALID, "%s: two tokens have the id %lld", draft->place, (long long)id);
    return json_array_set_new(draft->tokens, (size_t)id,
                              json_stringn(json_string_value(token), json_string_length(token))) == 0 ||
           interop_vocabulary_no_memory(err);
}

/* Reads "12" as 12. False: the text is not an id. */
static bool parse_id(const char *text, size_t n, json_int_t *id)
{
    *id = 0;
    if (n == 0 || n > 9) return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *id = *id * 10 + (text[i] - '0');
    }
    return true;
}

/* A map whose values all are integers goes from tokens to ids. Otherwise every key must be an id. */
static bool maps_to_ids(const json_t *map)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value)
    {
        if (!json_is_integer(value)) return false;
    }
    return true;
}

static bool put_map(struct interop_draft *draft, const json_t *map, struct error *err)
{
    const bool to_ids = maps_to_ids(map);
    const char *key;
    size_t n;
    json_t *value;
    json_object_keylen_foreach((json_t *)map, key, n, value)
    {
        json_int_t id = json_integer_value(value);
        if (!to_ids && (!json_is_string(value) || !parse_id(key, n, &id)))
            return error_set(err, ERROR_INVALID,
                             "%s: \"%.64s\": a map must be from tokens to ids (integers) or from ids to tokens",
                             draft->place, key);
        json_t *token = to_ids ? json_stringn(key, n) : json_incref(value);
        const bool ok = token ? put_token(draft, id, token, err) : interop_vocabulary_no_memory(err);
        json_decref(token);
        if (!ok) return false;
    }
    return true;
}

static bool put_list(struct interop_draft *draft, const json_t *list, struct error *err)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)list, i, value)
    {
        if (!json_is_string(value))
            return error_set(err, ERROR_INVALID, "%s: item %zu of the list of tokens is not a string", draft->place, i);
        if (!put_token(draft, (json_int_t)i, value, err)) return false;
    }
    return true;
}

/* ---- from ids to a vocabulary ---- */

static bool token_is(const json_t *token, const char *const *names)
{
    const char *text = json_string_value(token);
    for (; *names; names++)
        if (strcmp(text, *names) == 0) return true;
    return false;
}

/* A token whose name says what it means. */
static json_t *find_named(const json_t *tokens, const char *const *names)
{
    size_t id;
    json_t *token;
    json_array_foreach((json_t *)tokens, id, token)
    {
        if (token_is(token, names)) return json_integer((json_int_t)id);
    }
    return json_null();
}

static bool is_one_character(const json_t *token)
{
    uint32_t code;
    const size_t n = json_string_length(token);
    return n > 0 && utf8_decode(json_string_value(token), n, &code) == n;
}

static const char *const eos_names[] = {"<eos>", "<EOS>", NULL};
static const char *const pad_names[] = {"<pad>", "<PAD>", "[PAD]", NULL};
static const char *const unknown_names[] = {"<unk>", "<UNK>", "[UNK]", "<OOV>", "<oov>", NULL};

/* Whether a token is in angle or square brackets: <start>, [SEP]. */
static bool is_bracketed(const json_t *token)
{
    const char *text = json_string_value(token);
    const size_t n = json_string_length(token);
    return n > 2 && ((text[0] == '<' && text[n - 1] == '>') || (text[0] == '[' && text[n - 1] == ']'));
}

static enum interop_level guess_level(const json_t *tokens)
{
    size_t id;
    json_t *token;
    json_array_foreach((json_t *)tokens, id, token)
    {
        if (!is_one_character(token) && !is_bracketed(token) && json_string_length(token) > 0)
            return INTEROP_LEVEL_WORD;
    }
    return INTEROP_LEVEL_CHAR;
}

/* Whether some token has capital letters, which lower-casing would change (upper), or has letters at all. */
static bool has_letters(const json_t *tokens, bool upper)
{
    size_t id;
    json_t *token;
    json_array_foreach((json_t *)tokens, id, token)
    {
        if (is_bracketed(token)) continue;
        for (const char *c = json_string_value(token); *c; c++)
            if (upper ? *c >= 'A' && *c <= 'Z' : *c >= 'a' && *c <= 'z') return true;
    }
    return false;
}

/* The Keras filters without the characters that some token has: the filter let those pass. */
static void guess_filters(const json_t *tokens, char out[sizeof VOCABULARY_KERAS_FILTERS INTEROP_WHITE_SPACE])
{
    bool present[256] = {false};
    size_t id;
    json_t *token;
    json_array_foreach((json_t *)tokens, id, token)
    {
        if (is_bracketed(token)) continue;
        for (const char *c = json_string_value(token); *c; c++) present[(unsigned char)*c] = true;
    }
    for (const char *c = VOCABULARY_KERAS_FILTERS INTEROP_WHITE_SPACE; *c; c++)
        if (!present[(unsigned char)*c]) *out++ = *c;
    *out = '\0';
}

/* Ids of tokens of more than one character, in a vocabulary of characters. NULL: no memory. */
static json_t *find_labels(const json_t *tokens, const json_t *eos, const json_t *pad, const json_t *unknown)
{
    json_t *labels = json_array(), *token;
    size_t id;
    json_array_foreach((json_t *)tokens, id, token)
    {
        json_t *number = json_integer((json_int_t)id);
        const bool special = json_equal(number, eos) || json_equal(number, pad) || json_equal(number, unknown);
        const bool label = !special && !is_one_character(token) && is_bracketed(token);
        if (label && json_array_append_new(labels, number) != 0) {
            json_decref(labels);
            return NULL;
        }
        if (!label) json_decref(number);
    }
    return labels;
}

/* The vocabulary.json of these tokens. */
static json_t *draft_to_json(const struct interop_draft *draft)
{
    char guessed[sizeof VOCABULARY_KERAS_FILTERS INTEROP_WHITE_SPACE];
    const bool words = draft->level == INTEROP_LEVEL_WORD;
    const char *const own[] = {draft->unknown, NULL};
    json_t *eos = find_named(draft->tokens, eos_names), *pad = find_named(draft->tokens, pad_names);
    json_t *unknown = find_named(draft->tokens, draft->unknown ? own : unknown_names);
    const bool lower =
        draft->lower >= 0 ? draft->lower : has_letters(draft->tokens, false) && !has_letters(draft->tokens, true);
    json_t *json = json_pack("{s:s, s:b, s:O, s:O, s:O, s:O}", "level", words ? "word" : "char", "lower", (int)lower,
                             "tokens", draft->tokens, "eos", eos, "pad", pad, "unknown", unknown);
    bool ok = json && (json_is_null(eos) || json_object_set_new(json, "eos_starts", json_false()) == 0);
    if (words) {
        guess_filters(draft->tokens, guessed);
        ok = ok && json_object_set_new(json, "filters", json_string(draft->filters ? draft->filters : guessed)) == 0;
    } else {
        ok = ok && json_object_set_new(json, "labels", find_labels(draft->tokens, eos, pad, unknown)) == 0;
    }
    json_decref(eos);
    json_decref(pad);
    json_decref(unknown);
    if (ok) return json;
    json_decref(json);
    return NULL;
}

/* Ids from 1, where the network has only as many rows as there are tokens: each id becomes one less. */
static bool shift_ids(struct interop_draft *draft, struct error *err)
{
    static const char note[] =
        "The vocabulary numbers its tokens from 1, and the network has no place for an id 0 beside them: its ids are "
        "taken to be one less (word_index - 1).";
    json_array_remove(draft->tokens, 0);
    return !draft->wanted->notes || json_array_append_new(draft->wanted->notes, json_string(note)) == 0 ||
           interop_vocabulary_no_memory(err);
}

/* Id 0 may be missing, for padding. All others must be there. */
static bool fill_gaps(struct interop_draft *draft, struct error *err)
{
    size_t count = json_array_size(draft->tokens);
    bool pads = count > 0 && json_is_null(json_array_get(draft->tokens, 0));
    if (pads && count == (size_t)draft->wanted->size + 1 && !draft->wanted->pad && !draft->cut) {
        if (!shift_ids(draft, err)) return false;
        pads = false;
        count--;
    }
    if (pads && json_array_set_new(draft->tokens, 0, json_string("<pad>")) != 0)
        return interop_vocabulary_no_memory(err);
    for (size_t i = 0; i < count; i++)
        if (json_is_null(json_array_get(draft->tokens, i)))
            return error_set(err, ERROR_INVALID, "%s: no token has the id %zu", draft->place, i);
    if (!pads && draft->wanted->pad && count + 1 == draft->wanted->size && !interop_draft_insert_pad(draft, err))
        return false;
    count = json_array_size(draft->tokens);
    return count == draft->wanted->size || refuse_size(draft, count, err);
}

struct vocabulary *interop_draft_finish(struct interop_draft *draft, struct error *err)
{
    if (!fill_gaps(draft, err)) return NULL;
    if (draft->level == INTEROP_LEVEL_AUTO) draft->level = draft->wanted->level;
    if (draft->level == INTEROP_LEVEL_AUTO) draft->level = guess_level(draft->tokens);
    json_t *json = draft_to_json(draft);
    size_t n;
    char *text = json ? json_text_print(json, JSON_COMPACT, &n, err) : NULL;
    json_decref(json);
    if (!text) {
        interop_vocabulary_no_memory(err);
        return NULL;
    }
    struct vocabulary *vocabulary = vocabulary_from_json(text, n, draft->place, err);
    free(text);
    if (!vocabulary && err && err->code == ERROR_CORRUPT) err->code = ERROR_INVALID;
    return vocabulary;
}

/* ---- JSON ---- */

/* The JSON in a field: itself, or the text of a string. New reference. NULL: it is neither; an error is set only if
 * memory is short. */
static json_t *unwrap_list(const json_t *value, struct error *err)
{
    json_error_t cause;
    json_t *json = json_incref((json_t *)value);
    for (size_t i = 0; i < MAX_NESTING && json_is_string(json); i++) {
        json_t *inner = json_text_parse(json_string_value(json), json_string_length(json),
                                        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &cause);
        if (!inner && json_text_lacked_memory(&cause)) interop_vocabulary_no_memory(err);
        json_decref(json);
        json = inner;
    }
    return json;
}

/* The Tokenizer gives no ids from num_words on. Some networks have so many outputs, some one more, some one for every
 * word. Outputs beyond num_words still get their names. */
static json_int_t ids_below(const json_t *num_words, uint32_t outputs)
{
    if (!json_is_integer(num_words)) return VOCABULARY_MAX_TOKENS;
    return json_integer_value(num_words) > outputs ? json_integer_value(num_words) : outputs;
}

/* The words with ids below the limit. */
static bool put_word_index(struct interop_draft *draft, const json_t *index, json_int_t limit, struct error *err)
{
    const char *key;
    size_t n;
    json_t *value;
    json_object_keylen_foreach((json_t *)index, key, n, value)
    {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 1)
            return error_set(err, ERROR_INVALID, "%s: word_index: \"%.64s\" does not have an id from 1", draft->place,
                             key);
        draft->cut |= id >= limit;
        if (id >= limit) continue;
        json_t *token = json_stringn(key, n);
        const bool ok = token ? put_token(draft, id, token, err) : interop_vocabulary_no_memory(err);
        json_decref(token);
        if (!ok) return false;
    }
    return true;
}

static bool read_tokenizer_rules(struct interop_draft *draft, const json_t *config, struct error *err)
{
    const json_t *split = json_object_get(config, "split"), *filters = json_object_get(config, "filters");
    const json_t *unknown = json_object_get(config, "oov_token");
    const bool characters = json_is_true(json_object_get(config, "char_level"));
    if (!characters && split && (!json_is_string(split) || strcmp(json_string_value(split), " ") != 0))
        return error_set(err, ERROR_INVALID, "%s: split is not a space, which alone is supported", draft->place);
    draft->level = characters ? INTEROP_LEVEL_CHAR : INTEROP_LEVEL_WORD;
    draft->lower = !json_is_false(json_object_get(config, "lower"));
    draft->filters = json_is_string(filters) ? json_string_value(filters) : VOCABULARY_KERAS_FILTERS;
    draft->unknown = json_string_value(unknown);
    return true;
}

/* {"class_name": "Tokenizer", "config": {"word_index": "{...}", ...}}; ids begin at 1. */
static struct vocabulary *from_tokenizer(struct interop_draft *draft, const json_t *config, struct error *err)
{
    const json_int_t limit = ids_below(json_object_get(config, "num_words"), draft->wanted->size);
    json_t *index = unwrap_list(json_object_get(config, "word_index"), err);
    struct vocabulary *vocabulary = NULL;
    if (!json_is_object(index))
        error_set(err, ERROR_INVALID, "%s: the Tokenizer has no word_index", draft->place);
    else if (read_tokenizer_rules(draft, config, err) && put_word_index(draft, index, limit, err))
        vocabulary = interop_draft_finish(draft, err);
    json_decref(index);
    return vocabulary;
}

static bool is_container(const json_t *json)
{
    return json_is_object(json) || json_is_array(json);
}

/* In a row of several things, (char_to_int, int_to_char, n_vocab), the first map; without a map the row itself. */
static const json_t *find_in_row(const json_t *row)
{
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)row, i, value)
    {
        if (json_is_object(value)) return value;
    }
    return row;
}

/* The list or map with the best name in an object, else its only one, else the object itself. */
static const json_t *find_tokens(const json_t *json)
{
    const json_t *best = json, *last = NULL;
    size_t best_rank = SIZE_MAX, containers = 0;
    const char *key;
    json_t *value;
    if (json_is_array(json)) return find_in_row(json);
    if (!json_is_object(json)) return json;
    json_object_foreach((json_t *)json, key, value)
    {
        const size_t rank = interop_name_rank(key, strlen(key));
        if (!is_container(value)) continue;
        containers++;
        last = value;
        if (rank >= best_rank) continue;
        best = value;
        best_rank = rank;
    }
    return best == json && containers == 1 ? last : best;
}

/* The attributes of a Tokenizer: within the text of to_json(), or by themselves in a pickle. */
static const json_t *find_tokenizer(const json_t *json)
{
    const json_t *config = json_object_get(json, "config");
    if (json_object_get(config, "word_index")) return config;
    return json_object_get(json, "word_index") && json_object_get(json, "char_level") ? json : NULL;
}

static struct vocabulary *check_own(struct vocabulary *vocabulary, const struct interop_draft *draft, struct error *err)
{
    if (!vocabulary || vocabulary_size(vocabulary) == draft->wanted->size) return vocabulary;
    refuse_size(draft, vocabulary_size(vocabulary), err);
    vocabulary_free(vocabulary);
    return NULL;
}

/* lstmd's vocabulary.json, unchanged. */
static struct vocabulary *from_own(const struct interop_draft *draft, const json_t *json, struct error *err)
{
    size_t n;
    char *text = json_text_print(json, JSON_COMPACT, &n, err);
    struct vocabulary *vocabulary = text ? vocabulary_from_json(text, n, draft->place, err) : NULL;
    free(text);
    return check_own(vocabulary, draft, err);
}

static struct vocabulary *from_value(struct interop_draft *draft, const json_t *json, struct error *err)
{
    const json_t *tokenizer = find_tokenizer(json), *tokens = find_tokens(json);
    if (tokenizer) return from_tokenizer(draft, tokenizer, err);
    if (json_is_array(json_object_get(json, "tokens")) && json_is_string(json_object_get(json, "level")))
        return from_own(draft, json, err);
    bool ok = is_container(tokens) ||
              error_set(err, ERROR_INVALID, "%s: neither a list of tokens, a map nor a Keras Tokenizer", draft->place);
    ok = ok && (json_is_array(tokens) ? put_list(draft, tokens, err) : put_map(draft, tokens, err));
    return ok ? interop_draft_finish(draft, err) : NULL;
}

struct vocabulary *interop_vocabulary_from_json(const json_t *json, const struct interop_wanted *wanted,
                                                const char *place, struct error *err)
{
    struct interop_draft draft = {.place = place, .wanted = wanted, .lower = -1, .tokens = json_array()};
    json_t *value = unwrap_list(json, err);
    struct vocabulary *vocabulary = NULL;
    if (!draft.tokens)
        interop_vocabulary_no_memory(err);
    else
        vocabulary = from_value(&draft, value, err);
    json_decref(value);
    json_decref(draft.tokens);
    return vocabulary;
}

/* ---- lines ---- */

/* A line of two characters that means one. */
static json_t *token_of_line(const char *line, size_t n)
{
    static const char escapes[] = "n\nt\tr\r\\\\";
    for (size_t i = 0; n == 2 && line[0] == '\\' && i + 1 < sizeof escapes; i += 2)
        if (line[1] == escapes[i]) return json_stringn(&escapes[i + 1], 1);
    return json_stringn(line, n);
}

static bool put_lines(struct interop_draft *draft, const char *text, size_t n, struct error *err)
{
    for (size_t at = 0, next; at < n; at = next) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = end ? (size_t)(end - text) - at : n - at;
        next = at + length + 1;
        json_t *token;
        if (length > 0) {
            length -= length > 1 && text[at + length - 1] == '\r';
            token = token_of_line(text + at, length);
        } else if (next < n && text[next] == '\n') { /* a newline and the end of its line */
            next++;
            token = json_string("\n");
        } else {
            continue;
        }
        if (!token || json_array_append_new(draft->tokens, token) != 0) return interop_vocabulary_no_memory(err);
    }
    return true;
}

static struct vocabulary *from_lines(const struct interop_wanted *wanted, const char *place, const char *text, size_t n,
                                     struct error *err)
{
    struct interop_draft draft = {.place = place, .wanted = wanted, .lower = -1, .tokens = json_array()};
    struct vocabulary *vocabulary = NULL;
    if (!draft.tokens)
        interop_vocabulary_no_memory(err);
    else if (utf8_valid_prefix(text, n) < n)
        error_set(err, ERROR_INVALID, "%s: not UTF-8 at byte %zu", place, utf8_valid_prefix(text, n));
    else if (put_lines(&draft, text, n, err))
        vocabulary = interop_draft_finish(&draft, err);
    json_decref(draft.tokens);
    return vocabulary;
}

/* ---- pickles ---- */

static struct vocabulary *from_python(const struct pickle_value *root, const struct interop_wanted *wanted,
                                      const char *path, struct error *err)
{
    if (root->kind == PICKLE_SET) {
        error_set(
            err, ERROR_INVALID,
            "%s: a pickled set, which has no order: what is needed is the list or the map that numbers the tokens",
            path);
        return NULL;
    }
    json_t *json =
        root->kind == PICKLE_TEXT ? python_characters_to_json(root, path, err) : python_to_json(root, path, err);
    struct vocabulary *vocabulary = json ? interop_vocabulary_from_json(json, wanted, path, err) : NULL;
    json_decref(json);
    return vocabulary;
}

static struct vocabulary *from_pickle(const char *data, size_t n, const struct interop_wanted *wanted, const char *path,
                                      struct error *err)
{
    struct arena arena = {0};
    const struct pickle_value *root =
        n <= PICKLE_MAX_BYTES ? pickle_read(&arena, &(struct pickle_source){path, data, n}, NULL, NULL, err) : NULL;
    if (n > PICKLE_MAX_BYTES)
        error_set(err, ERROR_TOO_LARGE, "%s: a pickle of %zu bytes is more than is read", path, n);
    struct vocabulary *vocabulary = root ? from_python(root, wanted, path, err) : NULL;
    arena_free(&arena);
    return vocabulary;
}

/* ---- files ---- */

/* Reads JSON, or a token per line. */
static struct vocabulary *from_text(const char *text, size_t n, const struct interop_wanted *wanted, const char *path,
                                    struct error *err)
{
    const size_t mark = utf8_mark(text, n);
    text += mark;
    n -= mark;
    const size_t start = strspn(text, " \t\r\n");
    const bool like_json = start < n && strchr("{[\"", text[start]);
    json_error_t cause;
    json_t *json =
        like_json ? json_text_parse(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &cause) : NULL;
    if (like_json && !json && json_text_lacked_memory(&cause)) {
        interop_vocabulary_no_memory(err);
        return NULL;
    }
    struct vocabulary *vocabulary = is_container(json) || json_is_string(json)
                                        ? interop_vocabulary_from_json(json, wanted, path, err)
                                        : from_lines(wanted, path, text, n, err);
    if (!vocabulary && like_json && !json)
        error_add_context(err, "read as a token per line, since as JSON it is wrong at line %d (%s)", cause.line,
                          cause.text);
    json_decref(json);
    return vocabulary;
}

struct vocabulary *interop_vocabulary_from_memory(const char *text, size_t n, const struct interop_wanted *wanted,
                                                  const char *place, struct error *err)
{
    const char *other = interop_other_explain(text, n);
    const bool pickle = python_recognise_pickle(text, n);
    struct vocabulary *vocabulary =
        pickle ? from_pickle(text, n, wanted, place, err) : from_text(text, n, wanted, place, err);
    if (!vocabulary && !pickle && other && text[0] != '{') error_add_context(err, "%s is %s", place, other);
    return vocabulary;
}

struct vocabulary *interop_vocabulary_from_file(const char *path, const struct interop_wanted *wanted,
                                                struct error *err)
{
    char *text;
    size_t n;
    if (!file_read(path, INTEROP_MAX_VOCABULARY_BYTES, &text, &n, err)) return NULL;
    struct vocabulary *vocabulary = interop_vocabulary_from_memory(text, n, wanted, path, err);
    free(text);
    return vocabulary;
}
