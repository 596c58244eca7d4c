#include "model/generate/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/size.h"

#define SMALLEST_WEIGHT 1.8e-35f /* e^-80; kernels->exp clamps below e^-87 instead of reaching zero */
#define LOWEST_EXPONENT (-100.0f)

static bool has_subtracted_penalty(const struct sampler_options *options)
{
    return options->presence_penalty != 0 || options->frequency_penalty != 0;
}

static bool looks_back(const struct sampler_options *options)
{
    const bool divides = options->repetition_penalty != 0 && options->repetition_penalty != 1;
    return options->repetition_window > 0 && (divides || (has_subtracted_penalty(options) && !options->counts_written));
}

/* ---- changes of the logits ---- */

void sampler_see(struct sampler *sampler, uint32_t id, bool written)
{
    if (sampler->written && written) sampler->written[id]++;
    if (!sampler->window) return;
    uint32_t *slot = &sampler->window[sampler->seen % sampler->window_size];
    if (sampler->seen++ >= sampler->window_size) sampler->counts[*slot]--;
    *slot = id;
    sampler->counts[id]++;
}

static void penalise_logits(const struct sampler *sampler, float *logits)
{
    const struct sampler_options *options = &sampler->options;
    const uint32_t *counts = options->counts_written ? sampler->written : sampler->counts;
    const double r = options->repetition_penalty == 0 ? 1 : options->repetition_penalty;
    for (size_t v = 0; v < sampler->vocabulary_size; v++) {
        const uint32_t count = counts ? counts[v] : 0;
        const bool repeats = sampler->counts && sampler->counts[v] > 0;
        double logit = (double)logits[v];
        if (repeats) logit = logit > 0 ? logit / r : logit * r;
        if (count > 0) logit = logit - options->presence_penalty - options->frequency_penalty * count;
        if (repeats || count > 0) logits[v] = (float)logit;
    }
}

static void add_bias(const struct sampler *sampler, float *logits)
{
    for (size_t i = 0; i < sampler->options.bias_count; i++) {
        const struct logit_bias *item = &sampler->options.bias[i];
        logits[item->id] = item->bias <= SAMPLER_FORBID ? -INFINITY : logits[item->id] + item->bias;
    }
}

/* ---- weights ---- */

uint32_t sampler_argmax(const float *logits, size_t vocabulary_size)
{
    size_t best = 0;
    float largest = -INFINITY;
    for (size_t v = 0; v < vocabulary_size; v++) {
        if (logits[v] > largest) { /* false if the logit is NaN */
            largest = logits[v];
            best = v;
        }
    }
    return (uint32_t)best;
}

/* -infinity if there is none. The lanes let the compiler use vectors. NaN never counts as larger. */
static float largest_of(const float *x, size_t n)
{
    float lane[KERNEL_BLOCK], largest = -INFINITY;
    size_t i = 0;
    for (size_t j = 0; j < KERNEL_BLOCK; j++) lane[j] = -INFINITY;
    for (; i + KERNEL_BLOCK <= n; i += KERNEL_BLOCK)
        for (size_t j = 0; j < KERNEL_BLOCK; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    for (size_t j = 0; j < KERNEL_BLOCK; j++) largest = lane[j] > largest ? lane[j] : largest;
    return largest;
}

/* weights[V] = exp((logit - largest) / temperature); exactly 0 for forbidden tokens and below SMALLEST_WEIGHT. */
static void weigh_logits(struct sampler *sampler, const float *logits, float largest, double temperature)
{
    float *weights = sampler->weights;
    const size_t V = sampler->vocabulary_size;
    if (isinf(largest)) { /* no token is possible, or some are infinitely likely */
        for (size_t v = 0; v < V; v++) weights[v] = largest > 0 && logits[v] == largest ? 1 : 0;
        return;
    }
    const double exact = 1 / temperature;
    const float inverse = exact < FLT_MAX ? (float)exact : FLT_MAX;
    for (size_t v = 0; v < V; v++) {
        const float exponent = (logits[v] - largest) * inverse;
        weights[v] = exponent > LOWEST_EXPONENT ? exponent : LOWEST_EXPONENT; /* NaN: the lowest */
    }
    sampler->kernels->exp(V, weights, weights);
    for (size_t v = 0; v < V; v++) weights[v] = weights[v] >= SMALLEST_WEIGHT ? weights[v] : 0;
}

/* sums[block] of the weights; returns the total. */
static double sum_blocks(struct sampler *sampler)
{
    const size_t blocks = (sampler->vocabulary_size + KERNEL_BLOCK - 1) / KERNEL_BLOCK;
    double total = 0;
    for (size_t b = 0; b < blocks; b++) {
        const float *w = sampler->weights + b * KERNEL_BLOCK;
        double lane[4] = {0};
        for (size_t j = 0; j < KERNEL_BLOCK; j += 4)
            for (size_t k = 0; k < 4; k++) lane[k] += (double)w[j + k];
        sampler->sums[b] = (lane[0] + lane[1]) + (lane[2] + lane[3]);
        total += sampler->sums[b];
    }
    return total;
}

/* The token at `mark`, 0 <= mark <= total, on a line of all weights side by side. If rounding leaves the mark at or
 * behind the end of a block, the answer is the last possible token before it. */
static uint32_t token_at(const struct sampler *sampler, double mark)
{
    const size_t V = sampler->vocabulary_size;
    size_t start = 0, last = 0;
    while (start + KERNEL_BLOCK < V && mark >= sampler->sums[start / KERNEL_BLOCK]) {
        mark -= sampler->sums[start / KERNEL_BLOCK];
        start += KERNEL_BLOCK;
    }
    for (size_t v = start; v < V && v < start + KERNEL_BLOCK; v++) {
        if (sampler->weights[v] == 0) continue;
        last = v + 1;
        mark -= (double)sampler->weights[v];
        if (mark < 0) break;
    }
    for (size_t v = start; last == 0 && v-- > 0;)
        if (sampler->weights[v] > 0) last = v + 1;
    return last > 0 ? (uint32_t)(last - 1) : 0;
}

/* ---- life ---- */

static bool take_window(struct sampler *sampler, size_t history, struct error *err)
{
    const uint64_t wanted = sampler->options.repetition_window;
    sampler->window_size = wanted < history ? (size_t)wanted : history;
    if (sampler->window_size == 0) sampler->window_size = 1;
    sampler->window =
        arena_alloc(&sampler->arena, sampler->window_size, sizeof *sampler->window, "the window of the penalties", err);
    sampler->counts = arena_alloc(&sampler->arena, sampler->vocabulary_size, sizeof *sampler->counts,
                                  "the counts of the penalties", err);
    return sampler->window && sampler->counts;
}

static bool copy_bias(struct sampler *sampler, struct error *err)
{
    const size_t n = sampler->options.bias_count;
    struct logit_bias *copy = arena_alloc(&sampler->arena, n, sizeof *copy, "logit biases", err);
    if (!copy) return false;
    memcpy(copy, sampler->options.bias, n * sizeof *copy);
    sampler->options.bias = copy;
    for (size_t i = 0; i < n; i++) {
        if (copy[i].id < sampler->vocabulary_size) continue;
        return error_set(err, ERROR_INVALID, "logit_bias names token %lu; the vocabulary has %zu",
                         (unsigned long)copy[i].id, sampler->vocabulary_size);
    }
    return true;
}

/* Checks that the biases leave a token to pick. It takes `weights`, which are still zero, as logits. */
static bool check_possible(struct sampler *sampler, struct error *err)
{
    float *logits = sampler->weights;
    add_bias(sampler, logits);
    const bool possible = largest_of(logits, sampler->vocabulary_size) > -INFINITY;
    memset(logits, 0, sampler->vocabulary_size * sizeof *logits);
    return possible || error_set(err, ERROR_INVALID, "logit_bias forbids every token");
}

bool sampler_open(struct sampler *sampler, const struct sampler_options *options, const struct kernels *kernels,
                  size_t vocabulary_size, size_t history, struct error *err)
{
    *sampler = (struct sampler){.options = *options, .kernels = kernels, .vocabulary_size = vocabulary_size};
    struct arena *arena = &sampler->arena;
    const size_t padded = size_round_up(vocabulary_size, KERNEL_BLOCK);
    const bool top_k = options->top_k > 0 && options->top_k < vocabulary_size;
    const bool top_p = options->top_p > 0 && options->top_p < 1;
    sampler->weights = arena_alloc(arena, padded, sizeof *sampler->weights, "the sampler's weights", err);
    sampler->sums = arena_alloc(arena, padded / KERNEL_BLOCK, sizeof *sampler->sums, "the sampler's sums", err);
    if (!sampler->weights || !sampler->sums) return false;
    if (top_k || top_p) {
        sampler->order = arena_alloc(arena, vocabulary_size, sizeof *sampler->order, "the sampler's order", err);
        if (!sampler->order) return false;
    }
    if (options->bias_count > 0 && !(copy_bias(sampler, err) && check_possible(sampler, err))) return false;
    if (options->counts_written && has_subtracted_penalty(options)) {
        sampler->written =
            arena_alloc(arena, vocabulary_size, sizeof *sampler->written, "the counts of the penalties", err);
        if (!sampler->written) return false;
    }
    return !looks_back(options) || take_window(sampler, history, err);
}

void sampler_close(struct sampler *sampler)
{
    arena_free(&sampler->arena);
    *sampler = (struct sampler){0};
}

/* ---- truncation ---- */

/* The possible tokens, sorted only as far as needed: order[0 .. heap) is a heap; the tokens that ranked_token() took
 * out of it follow, the latest first. */
struct ranking {
    const float *logits;
    const float *weights;
    uint32_t *order;
    size_t count, heap;
};

static bool is_before(const struct ranking *ranking, uint32_t a, uint32_t b)
{
    const float x = ranking->logits[a], y = ranking->logits[b];
    return x > y || (x == y && a < b);
}

static void sift_down(struct ranking *ranking, size_t i)
{
    uint32_t *order = ranking->order;
    const uint32_t moving = order[i];
    for (size_t child; (child = 2 * i + 1) < ranking->heap; i = child) {
        if (child + 1 < ranking->heap && is_before(ranking, order[child + 1], order[child])) child++;
        if (!is_before(ranking, order[child], moving)) break;
        order[i] = order[child];
    }
    order[i] = moving;
}

static struct ranking rank_tokens(const struct sampler *sampler, const float *logits)
{
    struct ranking ranking = {.logits = logits, .weights = sampler->weights, .order = sampler->order};
    for (size_t v = 0; v < sampler->vocabulary_size; v++)
        if (sampler->weights[v] > 0) ranking.order[ranking.count++] = (uint32_t)v;
    ranking.heap = ranking.count;
    for (size_t i = ranking.count / 2; i-- > 0;) sift_down(&ranking, i);
    return ranking;
}

/* The id of the given rank, 0 for the likeliest. */
static uint32_t ranked_token(struct ranking *ranking, size_t index)
{
    while (ranking->count - ranking->heap <= index) {
        const uint32_t best = ranking->order[0];
        ranking->order[0] = ranking->order[--ranking->heap];
        sift_down(ranking, 0);
        ranking->order[ranking->heap] = best;
    }
    return ranking->order[ranking->count - 1 - index];
}

static double ranked_weight(struct ranking *ranking, size_t index)
{
    return (double)ranking->weights[ranked_token(ranking, index)];
}

/* How many of the likeliest tokens top_k, top_p and min_p keep. *mass: the sum of their weights. total: the sum of
 * all. */
static size_t count_kept(const struct sampler_options *options, struct ranking *ranking, double total, double *mass)
{
    size_t limit = ranking->count, kept = 0;
    if (options->top_k > 0 && options->top_k < limit) {
        limit = (size_t)options->top_k;
        total = 0;
        for (size_t i = 0; i < limit; i++) total += ranked_weight(ranking, i);
    }
    const bool top_p = options->top_p > 0 && options->top_p < 1;
    const double enough = top_p ? options->top_p * total : INFINITY;
    const double least = limit > 0 ? options->min_p * ranked_weight(ranking, 0) : 0;
    *mass = 0;
    while (kept < limit && *mass < enough && ranked_weight(ranking, kept) >= least)
        *mass += ranked_weight(ranking, kept++);
    return kept;
}

static uint32_t pick_ranked(struct sampler *sampler, const float *logits, double uniform)
{
    double mass;
    struct ranking ranking = rank_tokens(sampler, logits);
    const size_t kept = count_kept(&sampler->options, &ranking, sum_blocks(sampler), &mass);
    double mark = uniform * mass;
    for (size_t i = 0; i + 1 < kept; i++) {
        mark -= ranked_weight(&ranking, i);
        if (mark < 0) return ranked_token(&ranking, i);
    }
    return kept > 0 ? ranked_token(&ranking, kept - 1) : 0;
}

/* Applies min_p alone, which needs no order. */
static void drop_unlikely(struct sampler *sampler)
{
    const size_t V = sampler->vocabulary_size;
    float *weights = sampler->weights;
    const float least = (float)(sampler->options.min_p * (double)largest_of(weights, V));
    for (size_t v = 0; v < V; v++) weights[v] = weights[v] >= least ? weights[v] : 0;
}

uint32_t sampler_pick(struct sampler *sampler, float *logits, struct rng *rng)
{
    const struct sampler_options *options = &sampler->options;
    const size_t V = sampler->vocabulary_size;
    if (sampler->counts || sampler->written) penalise_logits(sampler, logits);
    add_bias(sampler, logits);
    if (!(options->temperature > 0)) return sampler_argmax(logits, V);

    const double uniform = rng_uniform(rng);
    weigh_logits(sampler, logits, largest_of(logits, V), options->temperature);
    if (sampler->order) return pick_ranked(sampler, logits, uniform);
    if (options->min_p > 0) drop_unlikely(sampler);
    return token_at(sampler, uniform * sum_blocks(sampler));
}

/* ---- probabilities ---- */

static void insert_top(struct token_probability *top, size_t filled, uint32_t id, float logit)
{
    size_t i = filled;
    for (; i > 0 && logit > top[i - 1].logprob; i--) top[i] = top[i - 1];
    top[i] = (struct token_probability){id, logit};
}

double sampler_logprobs(struct sampler *sampler, const float *logits, size_t count, struct token_probability *top)
{
    const size_t V = sampler->vocabulary_size;
    const float largest = largest_of(logits, V);
    weigh_logits(sampler, logits, largest, 1);
    const double logarithm = (double)largest + log(sum_blocks(sampler));
    for (size_t v = 0, filled = 0; v < V && count > 0; v++) {
        if (filled == count && !(logits[v] > top[count - 1].logprob)) continue;
        if (filled < count) filled++;
        insert_top(top, filled - 1, (uint32_t)v, logits[v]);
    }
    for (size_t i = 0; i < count; i++) top[i].logprob = (float)((double)top[i].logprob - logarithm);
    return logarithm;
}

/* exp((logit - largest) / temperature): 1 for the largest, 0 for forbidden tokens. */
static double relative_weight(float logit, float largest, double temperature)
{
    if (logit == largest) return largest == -INFINITY ? 0 : 1; /* also if both are infinite */
    if (!(logit < largest)) return 0;
    return exp(((double)logit - (double)largest) / temperature);
}

void sampler_softmax(const float *logits, size_t vocabulary_size, double temperature, double *probabilities)
{
    const float largest = logits[sampler_argmax(logits, vocabulary_size)];
    double sum = 0;
    for (size_t v = 0; v < vocabulary_size; v++) {
        probabilities[v] = relative_weight(logits[v], largest, temperature);
        sum += probabilities[v];
    }
    for (size_t v = 0; sum > 0 && v < vocabulary_size; v++) probabilities[v] /= sum;
}
