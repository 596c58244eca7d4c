/* How: cut_spans() cuts the dataset into spans (documents, or the lanes of one stream). Each span keeps its own sums,
 * and sum_up() adds these in the order of the dataset. So the result does not depend on the number of threads, on the
 * batch or on who took which span. Workers take spans longest first, by one atomic counter: `state->next` is the only
 * thing that they share and change. The worker that took a span writes its sums; sum_up() reads them after the join.
 */
#include "model/generate/evaluate.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/priority.h"
#include "base/size.h"
#include "model/generate/sampler.h"
#include "model/generate/step_piece.h"
#include "model/generate/window.h"

#define DEFAULT_BATCH 64
#define WINDOW_LANES  64

/* Inputs begin .. end - 1 of the dataset, from a zero state. Targets of inputs from `counted` on count. Windows look
 * back to `origin` at most, where the sequence starts. */
struct evaluate_span {
    size_t origin, begin, counted, end;
    double nats;
    size_t correct;
};

struct evaluation_state {
    const struct stepper *stepper;
    const struct dataset *dataset;
    const atomic_bool *stop;
    struct evaluate_span *spans;  /* in the order of the dataset; of span_list */
    struct evaluate_span **queue; /* longest first; of queue_list */
    struct scratch span_list, queue_list;
    size_t span_count;
    atomic_size_t next; /* place in the queue */
};

struct evaluate_worker {
    struct evaluation_state *state;
    struct step_scratch scratch;
    size_t batch;
    /* For each sequence of the batch: */
    struct evaluate_span **spans;
    size_t *positions; /* of the next input; with a window, of the input whose target comes next */
    size_t *padding;   /* with a window: pad tokens still to be fed */
    size_t *inputs;    /* of the next input of the window; without one, the position */
    uint32_t *tokens;
    float **states, **logits, **wanted;
    struct arena arena;
    pthread_t thread;
};

static size_t span_length(const struct evaluate_span *span)
{
    return span->end - span->begin;
}

/* Longest first. Spans of one length stay in the order of the dataset: every machine has the same order. */
static int compare_spans(const void *a, const void *b)
{
    const struct evaluate_span *x = *(struct evaluate_span *const *)a, *y = *(struct evaluate_span *const *)b;
    const size_t nx = span_length(x), ny = span_length(y);
    if (nx != ny) return nx > ny ? -1 : 1;
    return x < y ? -1 : 1;
}

static bool is_windowed(const struct evaluation_state *state)
{
    return state->stepper->architecture.window.size > 0;
}

static bool is_alone(const struct evaluation_state *state)
{
    return state->span_count == 1 && !is_windowed(state);
}

/* The place of the first input. An <eos> that only ends texts is never an input, so the inputs begin after it. */
static size_t first_input(const struct dataset *dataset, size_t start)
{
    return start + (dataset->eos_only_ends ? 1 : 0);
}

/* Without <eos>, the token after a document is the first of the next document, and no target. */
static void cut_documents(const struct dataset *dataset, struct evaluate_span *spans)
{
    for (size_t d = 0; d < dataset->document_count; d++) {
        const size_t begin = first_input(dataset, dataset->starts[d]), next = dataset->starts[d + 1];
        const size_t end = !dataset->lacks_eos || next == begin ? next : next - 1;
        spans[d] = (struct evaluate_span){.origin = begin, .begin = begin, .counted = begin, .end = end};
    }
}

/* The targets of a dataset that is one stream. */
static size_t stream_targets(const struct dataset *dataset)
{
    return dataset->token_count - 1 - first_input(dataset, 0);
}

static void cut_lanes(const struct dataset *dataset, size_t lanes, size_t warmup, struct evaluate_span *spans)
{
    const size_t targets = stream_targets(dataset), share = targets / lanes, rest = targets % lanes;
    const size_t origin = first_input(dataset, 0);
    size_t at = origin;
    for (size_t i = 0; i < lanes; i++) {
        const size_t length = share + (i < rest ? 1 : 0), read = at - origin < warmup ? at - origin : warmup;
        spans[i] = (struct evaluate_span){.origin = origin, .begin = at - read, .counted = at, .end = at + length};
        at += length;
    }
}

/* How many lanes a stream has. A network with a window carries no state, so lanes cost nothing there. */
static size_t lane_count(const struct evaluation_state *state, const struct evaluate_options *options)
{
    const size_t targets = stream_targets(state->dataset);
    const size_t lanes = is_windowed(state) ? WINDOW_LANES : options->lanes > 0 ? options->lanes : 1;
    return lanes < targets ? lanes : targets;
}

/* A long dataset of short documents has many. */
static bool make_spans(struct evaluation_state *state, size_t count, struct error *err)
{
    const char *directory = state->dataset->directory;
    if (!scratch_reserve_array(&state->span_list, count, sizeof *state->spans, directory, "evaluation", err) ||
        !scratch_reserve_array(&state->queue_list, count, sizeof *state->queue, directory, "evaluation", err))
        return false;
    state->spans = state->span_list.data;
    state->queue = state->queue_list.data;
    state->span_count = count;
    return true;
}

static bool cut_spans(struct evaluation_state *state, const struct evaluate_options *options, struct error *err)
{
    const struct dataset *dataset = state->dataset;
    const size_t warmup = is_windowed(state) ? 0 : options->warmup;

    if (!make_spans(state, dataset->one_stream ? lane_count(state, options) : dataset->document_count, err))
        return false;
    if (dataset->one_stream) {
        cut_lanes(dataset, state->span_count, warmup, state->spans);
    } else {
        cut_documents(dataset, state->spans);
    }
    for (size_t i = 0; i < state->span_count; i++) state->queue[i] = &state->spans[i];
    qsort(state->queue, state->span_count, sizeof *state->queue, compare_spans);
    return true;
}

static bool worker_open(struct evaluate_worker *worker, struct evaluation_state *state, size_t batch, struct error *err)
{
    const struct stepper *stepper = state->stepper;
    struct arena *arena = &worker->arena;
    size_t states, logits;

    memset(worker, 0, sizeof *worker);
    worker->state = state;
    worker->batch = batch;
    if (!step_scratch_open(&worker->scratch, stepper, batch, err)) return false;
    if (!size_multiply(batch, stepper->state_size, &states) || !size_multiply(batch, stepper->logits_size, &logits))
        return error_set(err, ERROR_TOO_LARGE, "a batch of %zu sequences is more than memory can hold", batch);

#define TAKE(field, count)                                                                                             \
    if (!(worker->field = arena_alloc(arena, (count), sizeof *worker->field, "evaluation", err))) return false
    TAKE(spans, batch);
    TAKE(positions, batch);
    TAKE(padding, batch);
    TAKE(inputs, batch);
    TAKE(tokens, batch);
    TAKE(states, batch);
    TAKE(logits, batch);
    TAKE(wanted, batch);
    TAKE(states[0], states);
    TAKE(logits[0], logits);
#undef TAKE
    for (size_t b = 1; b < batch; b++) {
        worker->states[b] = worker->states[0] + b * stepper->state_size;
        worker->logits[b] = worker->logits[0] + b * stepper->logits_size;
    }
    return true;
}

static void worker_close(struct evaluate_worker *worker)
{
    step_scratch_close(&worker->scratch);
    arena_free(&worker->arena);
}

/* Begins the window of sequence b's position. */
static void begin_window(struct evaluate_worker *worker, size_t b)
{
    const struct evaluation_state *state = worker->state;
    const size_t origin = worker->spans[b]->origin, count = worker->positions[b] + 1 - origin;
    const struct window_feed feed = window_feed(&state->stepper->architecture.window, state->dataset->pad, count);
    worker->padding[b] = feed.padding;
    worker->inputs[b] = origin + feed.first;
    memset(worker->states[b], 0, state->stepper->state_size * sizeof(float));
}

/* Gives place b the next span of the queue. False: the queue is empty. */
static bool take_span(struct evaluate_worker *worker, size_t b)
{
    struct evaluation_state *state = worker->state;
    struct evaluate_span *span;
    do {
        const size_t next = atomic_fetch_add_explicit(&state->next, 1, memory_order_relaxed);
        if (next >= state->span_count) return false;
        span = state->queue[next];
    } while (span_length(span) == 0);
    worker->spans[b] = span;
    worker->positions[b] = worker->inputs[b] = span->begin;
    worker->padding[b] = 0;
    memset(worker->states[b], 0, state->stepper->state_size * sizeof(float));
    if (is_windowed(state)) begin_window(worker, b);
    return true;
}

/* Moves sequence `from` to place `to`. The queue is empty by then: nobody uses `from` again. */
static void move_sequence(struct evaluate_worker *worker, size_t from, size_t to)
{
    worker->states[to] = worker->states[from];
    worker->spans[to] = worker->spans[from];
    worker->positions[to] = worker->positions[from];
    worker->padding[to] = worker->padding[from];
    worker->inputs[to] = worker->inputs[from];
}

static void step_sequences(struct evaluate_worker *worker, size_t active)
{
    const struct evaluation_state *state = worker->state;
    for (size_t b = 0; b < active; b++) {
        const size_t position = worker->positions[b];
        const bool last = worker->padding[b] == 0 && worker->inputs[b] == position;
        worker->tokens[b] =
            worker->padding[b] > 0 ? state->dataset->pad : tokens_get(&state->dataset->tokens, worker->inputs[b]);
        worker->wanted[b] = last && position >= worker->spans[b]->counted ? worker->logits[b] : NULL;
    }
    step(state->stepper, &worker->scratch, active, worker->tokens, worker->states, worker->wanted);
}

/* Adds the loss of the target behind the input at `position`. */
static void count_target(const struct evaluation_state *state, struct evaluate_span *span, size_t position,
                         const float *logits)
{
    const size_t V = state->stepper->architecture.vocabulary_size;
    const uint32_t target = tokens_get(&state->dataset->tokens, position + 1);
    span->nats += state->stepper->kernels->cross_entropy(V, logits, target, 1, NULL);
    span->correct += sampler_argmax(logits, V) == target;
}

/* Goes on to the next input, or to the next position where a window is through. False: the span is through. */
static bool next_input(struct evaluate_worker *worker, size_t b)
{
    if (worker->padding[b] > 0) {
        worker->padding[b]--;
    } else if (worker->inputs[b]++ == worker->positions[b]) {
        if (++worker->positions[b] == worker->spans[b]->end) return false;
        if (is_windowed(worker->state)) begin_window(worker, b);
    }
    return true;
}

static bool is_stopped(const struct evaluation_state *state)
{
    return state->stop && atomic_load_explicit(state->stop, memory_order_relaxed);
}

static void *evaluate_work(void *argument)
{
    struct evaluate_worker *worker = argument;
    const size_t width = worker->state->stepper->state_size;
    size_t active = 0;
    while (active < worker->batch && take_span(worker, active)) active++;
    while (active > 0 && !is_stopped(worker->state)) {
        step_sequences(worker, active);
        priority_give_way(active * width * width); /* roughly what a step multiplies */
        for (size_t b = 0; b < active; b++)
            if (worker->wanted[b])
                count_target(worker->state, worker->spans[b], worker->positions[b], worker->wanted[b]);
        for (size_t b = active; b-- > 0;) {
            if (next_input(worker, b) || take_span(worker, b)) continue;
            move_sequence(worker, --active, b);
        }
    }
    return NULL;
}

/* The caller is worker 0. Where a thread does not start, the others take its spans. */
static void run_workers(struct evaluate_worker *workers, size_t count)
{
    size_t started = 1;
    while (started < count && pthread_create(&workers[started].thread, NULL, evaluate_work, &workers[started]) == 0)
        started++;
    evaluate_work(&workers[0]);
    for (size_t i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
}

static void sum_up(const struct evaluation_state *state, struct evaluation *result)
{
    size_t correct = 0;
    *result = (struct evaluation){.characters = state->dataset->characters,
                                  .library = is_alone(state) && step_piece_has_library(state->stepper)};
    for (size_t i = 0; i < state->span_count; i++) {
        const struct evaluate_span *span = &state->spans[i];
        result->tokens += span->end - span->counted;
        result->nats += span->nats;
        correct += span->correct;
    }
    result->nats_per_token = result->nats / (double)result->tokens;
    result->nats_per_character = result->nats / (double)result->characters;
    result->bits_per_character = result->nats_per_character / log(2);
    result->perplexity = exp(result->nats_per_token);
    result->accuracy = (double)correct / (double)result->tokens;
}

/* ---- a dataset that is one sequence ---- */

static void read_span(const struct evaluation_state *state, struct step_piece *piece, float *hidden, uint32_t *inputs)
{
    const size_t width = state->stepper->state_size;
    struct evaluate_span *span = &state->spans[0];
    for (size_t first = span->begin, n; first < span->end && !is_stopped(state); first += n) {
        n = span->end - first < piece->tokens ? span->end - first : piece->tokens;
        for (size_t t = 0; t < n; t++) inputs[t] = tokens_get(&state->dataset->tokens, first + t);
        step_piece(piece, n, inputs, hidden, 0);
        priority_give_way(n * width * width);
        for (size_t t = 0; t < n; t++)
            count_target(state, span, first + t, piece->logits + t * state->stepper->logits_size);
    }
}

/* Reads the only span from its beginning, where all its targets count. */
static bool evaluate_alone(const struct evaluation_state *state, struct error *err)
{
    struct arena arena = {0};
    struct step_piece piece;
    uint32_t *inputs;
    const bool opened = step_piece_open(&piece, state->stepper, span_length(&state->spans[0]), true, true, err) &&
                        (inputs = arena_alloc(&arena, piece.tokens, sizeof *inputs, "evaluation", err));
    float *hidden = opened ? arena_alloc(&arena, state->stepper->state_size, sizeof *hidden, "evaluation", err) : NULL;
    if (hidden) read_span(state, &piece, hidden, inputs);
    step_piece_close(&piece);
    arena_free(&arena);
    return hidden;
}

/* ---- all ---- */

/* No more threads and no larger batch than there is work. cut_spans() has made one span at least. */
static size_t worker_count(const struct evaluate_options *options, size_t spans)
{
    const size_t wanted = options->threads > 0 ? options->threads : 1;
    assert(spans > 0);
    return wanted < spans ? wanted : spans;
}

static size_t worker_batch(const struct evaluate_options *options, size_t spans, size_t workers)
{
    const size_t wanted = options->batch > 0 ? options->batch : DEFAULT_BATCH, share = (spans + workers - 1) / workers;
    return wanted < share ? wanted : share;
}

/* Steps many spans together. */
static bool evaluate_together(struct evaluation_state *state, const struct evaluate_options *options, struct error *err)
{
    struct arena arena = {0};
    const size_t wanted = worker_count(options, state->span_count);
    const size_t batch = worker_batch(options, state->span_count, wanted);
    struct evaluate_worker *workers = arena_alloc(&arena, wanted, sizeof *workers, "evaluation", err);
    size_t opened = 0;
    bool ok = workers;
    while (ok && opened < wanted) ok = worker_open(&workers[opened++], state, batch, err);
    if (ok) run_workers(workers, wanted);
    for (size_t i = 0; i < opened; i++) worker_close(&workers[i]);
    arena_free(&arena);
    return ok;
}

bool evaluate(const struct stepper *stepper, const struct dataset *dataset, const struct evaluate_options *options,
              struct evaluation *result, struct error *err)
{
    struct evaluation_state state = {.stepper = stepper, .dataset = dataset, .stop = options->stop};
    bool done = false;

    if (dataset->token_count < first_input(dataset, 0) + 2 || dataset->characters == 0)
        return error_set(err, ERROR_INVALID, "there is no text to evaluate");
    if (!cut_spans(&state, options, err)) goto out;
    if (span_length(state.queue[0]) == 0) {
        error_set(err, ERROR_INVALID, "there is no text to evaluate: no document has two tokens");
        goto out;
    }
    if (!(is_alone(&state) ? evaluate_alone(&state, err) : evaluate_together(&state, options, err))) goto out;
    done = !is_stopped(&state) || error_set(err, ERROR_CANCELLED, "the evaluation was stopped");
    if (done) sum_up(&state, result);
out:
    scratch_close(&state.span_list);
    scratch_close(&state.queue_list);
    return done;
}
