#include "model/generate/generate_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

const char *finish_reason_name(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_LENGTH:
        return "length";
    case FINISH_EOS:
        return "eos";
    case FINISH_STOP:
        return "stop";
    case FINISH_PATTERN:
        return "pattern";
    case FINISH_NONE:
        break;
    }
    return "none";
}

static bool check_numbers(const struct generation_request *request, const char **field, struct error *err)
{
    if (request->min_length > request->length)
        return generation_refuse(field, "min_length", err,
                                 "min_length must not be more than the new tokens that are allowed");
    if (request->logprobs > GENERATION_MAX_LOGPROBS)
        return generation_refuse(field, "logprobs", err, "logprobs must be between 0 and 20");
    return sampler_options_check(&request->sampler, field, err);
}

/* Room for the longest text and the record of its tokens. */
static bool take_memory(struct generation *generation, const char **field, struct error *err)
{
    const size_t length = generation->length > 0 ? generation->length : 1, per_token = generation->alternative_count;
    size_t text, tokens, alternatives;
    if (!size_multiply(length, vocabulary_max_token_bytes(generation->vocabulary) + 1, &text) ||
        !size_add(text, 1, &text) || !size_multiply(length, sizeof *generation->tokens, &tokens) ||
        !size_multiply(length, per_token * sizeof *generation->alternatives, &alternatives)) {
        if (field) *field = "length";
        return error_set(err, ERROR_TOO_LARGE, "length %zu is more than memory can hold", length);
    }
    generation->text_capacity = text;
    generation->text = malloc(text);
    if (!generation->text) return error_set_no_memory(err, text, "the generated text");
    generation->text[0] = '\0';
    generation->tokens = malloc(tokens);
    if (!generation->tokens) return error_set_no_memory(err, tokens, "the generated tokens");
    if (per_token == 0) return true;
    if (generation->predicted < generation->prompt.count &&
        !prompt_scores_open(&generation->scores, generation->predicted, generation->prompt.count, per_token, err))
        return false;
    generation->alternatives = malloc(alternatives);
    if (!generation->alternatives) return error_set_no_memory(err, alternatives, "log-probabilities");
    const size_t logits = vocabulary_size(generation->vocabulary) * sizeof *generation->logits;
    generation->logits = malloc(logits);
    return generation->logits || error_set_no_memory(err, logits, "logits");
}

static void forbid_token(struct logit_bias *list, size_t *count, uint32_t id)
{
    if (id != TOKEN_NONE) list[(*count)++] = (struct logit_bias){id, SAMPLER_FORBID};
}

/* The request's biases and those that forbid what a continuation may never contain: pad, unknown, labels, and <eos>
 * where it is to be ignored. */
static struct logit_bias *list_biases(const struct vocabulary *vocabulary, const struct generation_request *request,
                                      size_t *count, struct error *err)
{
    const struct sampler_options *options = &request->sampler;
    const uint32_t labels = vocabulary_label_count(vocabulary);
    struct logit_bias *list = calloc(options->bias_count + labels + 3, sizeof *list);
    if (!list) {
        error_set_no_memory(err, (options->bias_count + labels + 3) * sizeof *list, "logit biases");
        return NULL;
    }
    *count = options->bias_count;
    if (*count > 0) memcpy(list, options->bias, *count * sizeof *list);
    forbid_token(list, count, vocabulary_pad(vocabulary));
    forbid_token(list, count, vocabulary_unknown(vocabulary));
    for (uint32_t i = 0; i < labels; i++) forbid_token(list, count, vocabulary_label(vocabulary, i));
    if (request->ignore_eos) forbid_token(list, count, vocabulary_eos(vocabulary));
    return list;
}

/* <eos> and labels are not text: the penalties do not see them. */
static void see_prompt(struct generation *generation)
{
    for (size_t i = 0; i < generation->prompt.count; i++) {
        const uint32_t id = generation->prompt.ids[i];
        if (!vocabulary_is_special(generation->vocabulary, id)) sampler_see(&generation->sampler, id, false);
    }
}

static bool open_sampler(struct generation *generation, const struct generation_request *request, const char **field,
                         struct error *err)
{
    const struct kernels *kernels = request->kernels ? request->kernels : kernels_select("auto");
    struct sampler_options options = request->sampler;
    struct error cause = {0};
    struct logit_bias *list = list_biases(generation->vocabulary, request, &options.bias_count, err);
    if (!list) return false;
    options.bias = list;
    const bool opened = sampler_open(&generation->sampler, &options, kernels, vocabulary_size(generation->vocabulary),
                                     generation->prompt.count + generation->length, &cause);
    free(list);
    if (opened) {
        see_prompt(generation);
        return true;
    }
    if (cause.code == ERROR_INVALID) return generation_refuse(field, "logit_bias", err, cause.message);
    return error_set(err, cause.code, "%s", cause.message);
}

/* Until it is long enough, the text cannot end: some other token than <eos> must be allowed. */
static bool check_min_length(struct generation *generation, const struct generation_request *request,
                             const char **field, struct error *err)
{
    struct generation_request endless = *request;
    if (request->min_length == 0 || request->ignore_eos) return true;
    endless.ignore_eos = true;
    const bool good = open_sampler(generation, &endless, field, err);
    sampler_close(&generation->sampler);
    return good;
}

static bool open_stop(struct generation *generation, const struct generation_request *request, const char **field,
                      struct error *err)
{
    struct error cause = {0};
    if (stop_matcher_open(&generation->stop, request->stop, request->stop_count, &cause)) return true;
    if (cause.code == ERROR_INVALID) return generation_refuse(field, "stop", err, cause.message);
    return error_set(err, cause.code, "%s", cause.message);
}

/* Whether a word that comes next needs no space before it. */
static bool starts_text(const struct vocabulary *vocabulary, const struct generation_request *request)
{
    if (request->prompt_bytes > 0) return strchr(" \t\r\n", request->prompt[request->prompt_bytes - 1]);
    return !request->continues || request->pending == TOKEN_NONE || request->pending == vocabulary_eos(vocabulary);
}

static uint32_t token_at(const struct generation *generation, size_t i)
{
    const size_t prompt = generation->prompt.count;
    return i < prompt ? generation->prompt.ids[i] : generation->tokens[i - prompt].id;
}

/* The first token of the prompt has no score: what it follows is not the request's. */
static void set_predicted(struct generation *generation, const struct generation_request *request)
{
    const size_t first = generation->prompt_begin + 1, count = generation->prompt.count;
    generation->predicted =
        request->scores_prompt && generation->alternative_count > 0 && first < count ? first : count;
}

static void choose_next(struct generation *generation)
{
    const bool pads = generation->padding > 0;
    generation->next = pads ? vocabulary_pad(generation->vocabulary) : token_at(generation, generation->fed);
}

/* Begins the window that the next new token is predicted from. One that is the last one and a token more goes on. */
static void move_window(struct generation *generation)
{
    const struct window_feed feed =
        window_feed(&generation->window, vocabulary_pad(generation->vocabulary), generation->predicted);
    if (feed.first != generation->feed.first || feed.padding != generation->feed.padding) {
        generation->feed = feed;
        generation->fed = feed.first;
        generation->padding = feed.padding;
        generation->resets = true;
    }
    choose_next(generation);
}

bool generation_open(struct generation *generation, const struct vocabulary *vocabulary,
                     const struct generation_request *request, const char **field, struct error *err)
{
    const size_t V = vocabulary_size(vocabulary);
    memset(generation, 0, sizeof *generation);
    if (field) *field = NULL;
    generation->vocabulary = vocabulary;
    generation->length = request->length;
    generation->window = request->window;
    generation->pattern = request->pattern;
    generation->pattern_state = PATTERN_START;
    generation->alternative_count = request->logprobs < V ? request->logprobs : V;
    generation->at_start = starts_text(vocabulary, request);
    generation->prompt_name = request->prompt_name ? request->prompt_name : "prompt";
    generation->min_length = request->min_length;
    generation->include_stop = request->include_stop;
    generation->start_state = request->start_state;
    generation->end_state = request->end_state;
    if (request->rng)
        generation->rng = *request->rng;
    else
        rng_seed(&generation->rng, request->seed, 0);

    if (!check_numbers(request, field, err) || !open_stop(generation, request, field, err) ||
        !generation_encode_prompt(generation, request, field, err))
        return false;
    set_predicted(generation, request);
    if (!take_memory(generation, field, err) || !check_min_length(generation, request, field, err) ||
        !open_sampler(generation, request, field, err))
        return false;
    move_window(generation);
    return true;
}

void generation_close(struct generation *generation)
{
    token_list_free(&generation->prompt);
    prompt_scores_close(&generation->scores);
    unknown_list_free(&generation->unknown);
    stop_matcher_close(&generation->stop);
    sampler_close(&generation->sampler);
    free(generation->text);
    free(generation->tokens);
    free(generation->alternatives);
    free(generation->logits);
    memset(generation, 0, sizeof *generation);
}

void generation_skip(struct generation *generation, size_t count)
{
    assert(generation->fed == 0 && count < generation->prompt.count && generation->window.size == 0);
    generation->cached = generation->fed = count;
    generation->next = generation->prompt.ids[count];
}

void generation_request_carry(struct generation_request *request, const struct carried_state *carried, bool draws,
                              size_t i, struct rng *rng)
{
    request->continues = true;
    request->pending = carried->pending;
    request->start_state = carried->state;
    if (!draws || !carried->has_rng) return;
    struct rng first = carried->rng;
    *rng = first;
    if (i > 0) rng_seed(rng, rng_next(&first), i);
    request->rng = rng;
}

uint64_t generation_seed(uint64_t seed, size_t i)
{
    return (seed + i) & ((UINT64_C(1) << 53) - 1);
}

bool generation_find_token(const struct vocabulary *vocabulary, const char *text, size_t n, uint32_t *id,
                           struct error *err)
{
    struct token_list ids = {0};
    struct unknown_list unknown = {0};
    const uint32_t eos = vocabulary_eos(vocabulary);
    size_t eos_bytes = 0;
    const char *eos_text = eos == TOKEN_NONE ? "" : vocabulary_token(vocabulary, eos, &eos_bytes);
    const bool encoded = vocabulary_encode(vocabulary, text, n, &ids, &unknown, err);
    bool found = encoded && ids.count == 1 && unknown.total == 0 && ids.ids[0] != vocabulary_unknown(vocabulary);
    if (found) {
        *id = ids.ids[0];
    } else if (encoded && eos != TOKEN_NONE && n == eos_bytes && memcmp(text, eos_text, n) == 0) {
        *id = eos;
        found = true;
    } else if (encoded) {
        error_set(err, ERROR_INVALID, "\"%.*s\" is not one token of the model's vocabulary",
                  (int)utf8_complete_prefix(text, n < 100 ? n : 100), text);
    }
    token_list_free(&ids);
    unknown_list_free(&unknown);
    return found;
}

bool generation_done(const struct generation *generation)
{
    return generation->finish != FINISH_NONE;
}

uint32_t generation_token(const struct generation *generation)
{
    return generation->next;
}

uint32_t generation_pending(const struct generation *generation)
{
    const bool left = generation->finish == FINISH_PATTERN &&
                      generation->next == vocabulary_eos(generation->vocabulary); /* the match, not the document */
    return left ? TOKEN_NONE : generation->next;
}

struct carried_state generation_carried(const struct generation *generation)
{
    return (struct carried_state){.state = generation->end_state,
                                  .pending = generation_pending(generation),
                                  .has_rng = true,
                                  .rng = generation->rng};
}

bool generation_resets(const struct generation *generation)
{
    return generation->resets;
}

bool generation_wants_logits(const struct generation *generation)
{
    return generation->padding == 0 && generation->fed + 1 >= generation->predicted;
}

bool generation_is_reading(const struct generation *generation)
{
    return generation->predicted < generation->prompt.count || !generation_wants_logits(generation);
}

size_t generation_ahead(const struct generation *generation, const uint32_t **tokens)
{
    *tokens = generation->prompt.ids + generation->fed;
    if (generation->window.size > 0 || generation->fed + 1 >= generation->predicted) return 0;
    return generation->predicted - 1 - generation->fed;
}

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Where the last n bytes of the searched text begin, as they are shown. */
static size_t shown_begin(const struct generation *generation, size_t n)
{
    size_t at = generation->searched;
    for (size_t shown = 0; at > 0 && shown < n;) {
        bool valid;
        const size_t length = utf8_last(generation->text, at, &valid);
        shown += valid ? length : sizeof replacement - 1;
        at -= length;
    }
    return at;
}

/* Searches what is new of the text, a character at a time and as it is shown: bytes that are none are U+FFFD. Ends the
 * text before a stop text. over: no byte follows that could complete a character. */
static void search_stop(struct generation *generation, bool over)
{
    while (generation->stop.count > 0 && generation->searched < generation->text_bytes) {
        const char *text = generation->text + generation->searched;
        size_t length, found = 0;
        uint32_t code_point;
        const enum utf8_scan kind =
            utf8_scan(text, generation->text_bytes - generation->searched, &length, &code_point);
        if (kind == UTF8_INCOMPLETE && !over) return;
        const char *shown = kind == UTF8_VALID ? text : replacement;
        const size_t size = kind == UTF8_VALID ? length : sizeof replacement - 1;
        for (size_t i = 0; i < size && found == 0; i++) found = stop_matcher_feed(&generation->stop, shown[i]);
        generation->searched += length;
        if (found == 0) continue;
        generation->text_bytes = generation->include_stop ? generation->searched : shown_begin(generation, found);
        generation->finish = FINISH_STOP;
    }
}

static bool is_token_ready(const struct generation *generation, size_t i)
{
    if (generation->tokens[i].text_end <= generation->text_ready) return true;
    return generation_done(generation) && (i > 0 ? generation->tokens[i - 1].text_end : 0) < generation->text_bytes;
}

static void update_ready(struct generation *generation)
{
    size_t ready = generation->text_bytes;
    if (!generation_done(generation) && generation->stop.count > 0 && !generation->include_stop)
        ready = shown_begin(generation, stop_matcher_held(&generation->stop));
    else if (!generation_done(generation))
        ready = utf8_complete_prefix(generation->text, ready);
    assert(ready >= generation->text_ready);
    generation->text_ready = ready;
    while (generation->tokens_ready < generation->produced && is_token_ready(generation, generation->tokens_ready))
        generation->tokens_ready++;
}

static void append_token(struct generation *generation, uint32_t id, float logprob)
{
    char *end = generation->text + generation->text_bytes;
    const size_t n = vocabulary_decode(generation->vocabulary, id, generation->at_start, end);
    if (n > 0) generation->at_start = false;
    generation->text_bytes += n;
    assert(generation->text_bytes < generation->text_capacity);
    generation->tokens[generation->produced++] = (struct generated_token){generation->text_bytes, id, logprob};
    search_stop(generation, generation->produced == generation->length);
    if (!generation_done(generation) && generation->produced == generation->length) generation->finish = FINISH_LENGTH;
    generation->text[generation->text_bytes] = '\0';
}

/* Whether the model may end the text here: it is long enough, or nothing can follow. */
static bool may_end(const struct generation *generation)
{
    return generation->produced >= generation->min_length ||
           (generation->pattern && pattern_is_final(generation->pattern, generation->pattern_state));
}

static void mask_tokens(const struct generation *generation, float *logits)
{
    const uint32_t eos = vocabulary_eos(generation->vocabulary);
    if (generation->pattern) pattern_mask(generation->pattern, generation->pattern_state, logits);
    if (eos != TOKEN_NONE && !may_end(generation)) logits[eos] = -INFINITY;
}

/* The text matches, and what the model would write next is not part of any longer match. */
static bool leaves_pattern(const struct generation *generation, const float *logits)
{
    const struct pattern *pattern = generation->pattern;
    const uint32_t state = generation->pattern_state;
    if (!pattern || !pattern_is_complete(pattern, state) || !may_end(generation)) return false;
    const uint32_t best = sampler_argmax(logits, generation->sampler.vocabulary_size);
    return best != vocabulary_eos(generation->vocabulary) && !pattern_allows(pattern, state, best);
}

/* Ends the text where it is. */
static void end_text(struct generation *generation, enum finish_reason finish)
{
    generation->finish = finish;
    search_stop(generation, true);
}

static void follow_pattern(struct generation *generation)
{
    const struct pattern *pattern = generation->pattern;
    if (!pattern) return;
    generation->pattern_state = pattern_next(pattern, generation->pattern_state, generation->next);
    if (generation->finish != FINISH_STOP && pattern_is_final(pattern, generation->pattern_state))
        end_text(generation, FINISH_PATTERN);
}

/* The next token; *logprob: of the model's own distribution, 0 where nobody asked. */
static uint32_t pick_token(struct generation *generation, float *logits, float *logprob)
{
    struct sampler *sampler = &generation->sampler;
    const size_t count = generation->alternative_count;
    *logprob = 0;
    if (count == 0) {
        mask_tokens(generation, logits);
        return sampler_pick(sampler, logits, &generation->rng);
    }
    const double logarithm =
        sampler_logprobs(sampler, logits, count, generation->alternatives + generation->produced * count);
    memcpy(generation->logits, logits, sampler->vocabulary_size * sizeof *logits);
    mask_tokens(generation, logits);
    const uint32_t id = sampler_pick(sampler, logits, &generation->rng);
    *logprob = (float)((double)generation->logits[id] - logarithm);
    return id;
}

/* Writes the next token, or ends the text. */
static void write_next(struct generation *generation, float *logits)
{
    const uint32_t eos = vocabulary_eos(generation->vocabulary);
    float logprob = 0;
    generation->next = leaves_pattern(generation, logits) ? eos : pick_token(generation, logits, &logprob);
    if (generation->next == eos) {
        end_text(generation, generation->pattern ? FINISH_PATTERN : FINISH_EOS);
        generation->tokens[generation->produced] = (struct generated_token){generation->text_bytes, eos, logprob};
        return;
    }
    sampler_see(&generation->sampler, generation->next, true);
    append_token(generation, generation->next, logprob);
    generation->predicted++;
    follow_pattern(generation);
    move_window(generation);
}

static void score_next(struct generation *generation, const float *logits)
{
    prompt_scores_add(&generation->scores, logits, generation->sampler.vocabulary_size,
                      generation->prompt.ids[generation->predicted]);
    generation->predicted++;
    move_window(generation);
}

void generation_advance(struct generation *generation, float *logits)
{
    assert(!generation_done(generation));
    const bool predicts = generation_wants_logits(generation);
    generation->resets = false;
    if (generation->padding > 0)
        generation->padding--;
    else
        generation->fed++;
    assert(logits || !predicts);
    if (!predicts) {
        choose_next(generation);
    } else if (generation->predicted < generation->prompt.count) {
        score_next(generation, logits);
    } else {
        if (generation->length > 0)
            write_next(generation, logits);
        else
            generation->finish = FINISH_LENGTH;
        update_ready(generation);
    }
}
