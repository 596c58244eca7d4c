#include "server/api/openai_logprobs.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define SEARCH_BYTES ((size_t)4096) /* how far the text of a prompt's token is looked for behind the one before */

static const char *const list_begins[OPENAI_LISTS] = {"{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[",
                                                      "],\"text_offset\":["};

/* Writes a token as it stands in the text, so that the tokens joined are the text: a word has its space before it
 * unless it is the first. A token without text is written by its name. */
static void write_token(const struct vocabulary *vocabulary, uint32_t id, bool first, struct json_writer *out)
{
    size_t n;
    const char *name = vocabulary_token(vocabulary, id, &n);
    const bool spaced =
        !first && vocabulary_level(vocabulary) == TOKEN_LEVEL_WORD && !vocabulary_is_special(vocabulary, id);
    struct json_string string = {0};
    json_write(out, spaced ? "\" " : "\"", spaced ? 2 : 1);
    json_write_part(out, &string, name, n);
    json_write_part_end(out, &string);
    json_write_literal(out, "\"");
}

static size_t token_begin(const struct generation *generation, size_t i)
{
    return i > 0 ? generation->tokens[i - 1].text_end : 0;
}

/* The new token of item i. <eos> comes after all others, also after those without text. */
static size_t item_token(const struct openai_logprobs *lists, size_t i)
{
    const bool eos = lists->has_eos && i + 1 == lists->prompt_count + lists->count;
    return eos ? lists->generation->produced : lists->first + i - lists->prompt_count;
}

/* The id of item i: of the prompt's tokens, then of the new ones. */
static uint32_t item_id(const struct openai_logprobs *lists, size_t i)
{
    const struct generation *generation = lists->generation;
    return i < lists->prompt_count ? generation->prompt.ids[generation->prompt_begin + i]
                                   : generation->tokens[item_token(lists, i)].id;
}

/* Whether a word there has no space before it. */
static bool is_first(const struct openai_logprobs *lists, size_t i)
{
    const struct generation *generation = lists->generation;
    if (i < lists->prompt_count)
        return i == 0 || (i == 1 && vocabulary_is_special(generation->vocabulary, item_id(lists, 0)));
    const size_t token = item_token(lists, i), begin = token_begin(generation, token);
    size_t n;
    vocabulary_token(generation->vocabulary, generation->tokens[token].id, &n);
    return begin == 0 && generation->tokens[token].text_end == n;
}

/* The token's part of the text: a stop text may have cut it. */
static void write_name(const struct openai_logprobs *lists, size_t i, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    if (i >= lists->prompt_count) {
        const size_t token = item_token(lists, i), begin = token_begin(generation, token);
        if (begin < lists->text_end && lists->text_end < generation->tokens[token].text_end) {
            json_write_string(out, generation->text + begin, lists->text_end - begin);
            return;
        }
    }
    write_token(generation->vocabulary, item_id(lists, i), is_first(lists, i), out);
}

/* The score of a token of the prompt, i > 0. */
static size_t score_index(const struct openai_logprobs *lists, size_t i)
{
    return lists->generation->prompt_begin + i - lists->generation->scores.first;
}

static void write_logprob(double logprob, struct json_writer *out)
{
    const double least = answer_logprob(-1e30f);
    json_write_real(out, logprob > least ? logprob : least);
}

static void write_value(const struct openai_logprobs *lists, size_t i, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    if (i >= lists->prompt_count)
        write_logprob((double)generation->tokens[item_token(lists, i)].logprob, out);
    else if (i == 0)
        json_write_literal(out, "null");
    else
        write_logprob(generation->scores.logprobs[score_index(lists, i)], out);
}

/* The k-th likeliest token in the place of item i. */
static struct scored_token alternative_at(const struct openai_logprobs *lists, size_t i, size_t k)
{
    const struct generation *generation = lists->generation;
    const size_t all = generation->alternative_count;
    if (i < lists->prompt_count) return generation->scores.alternatives[score_index(lists, i) * all + k];
    const struct token_probability *one = &generation->alternatives[item_token(lists, i) * all + k];
    return (struct scored_token){one->id, (double)one->logprob};
}

/* Writes {"token": logprob}. A name that a likelier token has is left out: bytes that are no character look alike. */
static void write_alternatives(const struct openai_logprobs *lists, size_t index, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    const bool first = is_first(lists, index);
    struct {
        size_t at, size;
    } names[GENERATION_MAX_LOGPROBS];
    size_t count = 0;
    if (index == 0 && lists->prompt_count > 0) {
        json_write_literal(out, "null");
        return;
    }
    json_write_literal(out, "{");
    for (size_t i = 0; i < generation->alternative_count && i < lists->alternatives; i++) {
        const struct scored_token token = alternative_at(lists, index, i);
        const size_t before = out->size;
        if (count > 0) json_write_literal(out, ",");
        names[count].at = out->size;
        write_token(generation->vocabulary, token.id, first, out);
        names[count].size = out->size - names[count].at;
        bool known = out->failed;
        for (size_t k = 0; k < count && !known; k++)
            known = names[k].size == names[count].size &&
                    memcmp(out->text + names[k].at, out->text + names[count].at, names[k].size) == 0;
        if (known) {
            out->size = before;
            continue;
        }
        json_write_literal(out, ":");
        write_logprob(token.logprob, out);
        count++;
    }
    json_write_literal(out, "}");
}

/* Moves to the place of the token in the prompt. Text that the vocabulary lacks, or other spaces, may come before it.
 * If the prompt wrote the token in another way, it is not found, and its place is the end of the token before. */
static void find_in_prompt(struct openai_logprobs *lists, uint32_t id)
{
    const char *text = lists->prompt + lists->prompt_at;
    size_t left = lists->prompt_bytes - lists->prompt_at, n;
    const char *name = vocabulary_token(lists->generation->vocabulary, id, &n);
    if (vocabulary_is_special(lists->generation->vocabulary, id)) n = 0;
    if (left > SEARCH_BYTES) left = SEARCH_BYTES;
    size_t at = 0;
    while (n > 0 && at + n <= left && strncasecmp(text + at, name, n) != 0) at++;
    const bool found = n > 0 && at + n <= left;
    lists->offset += found ? utf8_count(text, at) : 0;
    lists->prompt_at += found ? at : 0;
}

static void write_offset(struct openai_logprobs *lists, size_t i, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    if (i < lists->prompt_count) {
        const uint32_t id = item_id(lists, i);
        size_t n;
        vocabulary_token(generation->vocabulary, id, &n);
        find_in_prompt(lists, id);
        json_write_integer(out, (int64_t)lists->offset);
        if (vocabulary_is_special(generation->vocabulary, id)) return;
        if (n > lists->prompt_bytes - lists->prompt_at) n = lists->prompt_bytes - lists->prompt_at;
        lists->offset += utf8_count(lists->prompt + lists->prompt_at, n);
        lists->prompt_at += n;
        return;
    }
    const size_t token = item_token(lists, i), begin = token_begin(generation, token);
    if (i == lists->prompt_count)
        lists->offset =
            utf8_count(generation->text, begin) + (lists->prompt ? utf8_count(lists->prompt, lists->prompt_bytes) : 0);
    json_write_integer(out, (int64_t)lists->offset);
    lists->offset += utf8_count(generation->text + begin, generation->tokens[token].text_end - begin);
}

static void write_item(struct openai_logprobs *lists, struct json_writer *out)
{
    const size_t i = lists->at++;
    if (i > 0) json_write_literal(out, ",");
    switch (lists->list) {
    case OPENAI_TOKENS:
        write_name(lists, i, out);
        break;
    case OPENAI_VALUES:
        write_value(lists, i, out);
        break;
    case OPENAI_ALTERNATIVES:
        write_alternatives(lists, i, out);
        break;
    case OPENAI_OFFSETS:
        write_offset(lists, i, out);
        break;
    case OPENAI_LISTS:
        break;
    }
}

struct openai_logprobs openai_logprobs_begin(const struct completion *completion, size_t choice,
                                             const struct completion_piece *piece)
{
    const struct answer_choice *shown = &completion->choices[choice];
    const struct generation *generation = shown->generation;
    const struct completion_part *part = &completion->parts[choice];
    const bool echo = completion->fields.echo, last = !piece || piece->last;
    const bool begins = !piece || (part->sent_text == 0 && part->sent_tokens == 0);
    struct openai_logprobs lists = {.generation = generation,
                                    .prompt = echo ? shown->prompt : NULL,
                                    .prompt_bytes = shown->prompt_bytes,
                                    .text_end = last ? generation->text_bytes : SIZE_MAX,
                                    .alternatives = (size_t)completion->fields.shown_logprobs,
                                    .first = piece ? piece->first_token : 0};
    if (echo && begins) lists.prompt_count = generation->prompt.count - generation->prompt_begin;
    lists.count = last ? generation->tokens_ready - lists.first : piece->token_count;
    lists.has_eos = last && echo && generation->finish == FINISH_EOS;
    if (lists.has_eos) lists.count++;
    return lists;
}

bool openai_logprobs_write(struct openai_logprobs *lists, struct json_writer *out)
{
    if (lists->at == 0) json_write(out, list_begins[lists->list], strlen(list_begins[lists->list]));
    if (lists->at < lists->prompt_count + lists->count) {
        write_item(lists, out);
        return true;
    }
    lists->at = lists->prompt_at = lists->offset = 0;
    if (++lists->list < OPENAI_LISTS) return true;
    json_write_literal(out, "]}");
    return false;
}
