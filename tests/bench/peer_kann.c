/* KANN as a peer of `lstmd bench` (the protocol is in cli/bench_peer.h).
 *
 * Training, as in KANN's examples: an LSTM per layer, unrolled over the window, mini-batches, softmax with
 * cross-entropy, KANN's RMSprop. States start at zero, because KANN cannot carry those of a batch. Two threads either
 * share the batch (kann_mt) or share each product (OpenBLAS). The faster way counts. Stepping: kann_apply1, one
 * sequence. KANN multiplies with OpenBLAS or with its own loops. It trains faster with OpenBLAS and steps faster with
 * its loops. So the build with HAVE_CBLAS_SGEMM answers "train", and the build without it answers "step".
 *
 * KANN has no Debian package, but Debian's source package rspamd contains it. With a line `deb-src` in apt's sources:
 *
 *   apt-get source --download-only rspamd && tar xf rspamd_*.orig.tar.xz
 *   KANN=$PWD/rspamd-VERSION/contrib/kann tests/bench/run --only train
 */
#ifdef HAVE_CBLAS_SGEMM
#include <cblas.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kann.h>

struct shape {
    int layers, hidden, vocabulary, batch, window, threads;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *take(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) abort();
    return memory;
}

static kann_t *new_network(const struct shape *shape)
{
    kann_srand(1);
    kad_node_t *top = kann_layer_input(shape->vocabulary);
    for (int i = 0; i < shape->layers; i++) top = kann_layer_lstm(top, shape->hidden, 0);
    return kann_new(kann_layer_cost(top, shape->vocabulary, KANN_C_CEM), 0);
}

#ifdef HAVE_CBLAS_SGEMM /* ------------------------------------------------------------------ training */

#define MULTIPLIES openblas_get_config()

struct training {
    struct shape shape;
    kann_t *network, *unrolled;
    float **inputs, **targets; /* per time of the window: one-hot rows [batch, vocabulary] */
    float *squares;            /* of RMSprop */
    int *tokens;               /* [window + 1, batch] */
};

/* kann_threads share a batch. blas_threads share a product. */
static void training_open(struct training *training, const struct shape *shape, int kann_threads, int blas_threads)
{
    *training = (struct training){.shape = *shape, .network = new_network(shape)};
    const size_t window = (size_t)shape->window, batch = (size_t)shape->batch, vocabulary = (size_t)shape->vocabulary;
    training->inputs = take(window, sizeof(float *));
    training->targets = take(window, sizeof(float *));
    training->tokens = take((window + 1) * batch, sizeof(int));
    training->squares = take((size_t)kann_size_var(training->network), sizeof(float));
    for (size_t i = 0; i < (window + 1) * batch; i++) training->tokens[i] = (int)(kann_drand() * shape->vocabulary);
    for (size_t t = 0; t < window; t++) {
        training->inputs[t] = take(batch * vocabulary, sizeof(float));
        training->targets[t] = take(batch * vocabulary, sizeof(float));
    }
    openblas_set_num_threads(blas_threads);
    training->unrolled = kann_unroll(training->network, shape->window);
    kann_mt(training->unrolled, kann_threads, shape->batch);
    kann_switch(training->unrolled, 1);
    kann_set_batch_size(training->unrolled, shape->batch);
    kann_feed_bind(training->unrolled, KANN_F_IN, 0, training->inputs);
    kann_feed_bind(training->unrolled, KANN_F_TRUTH, 0, training->targets);
}

static void training_close(struct training *training)
{
    if (training->network == NULL) return;
    kann_delete_unrolled(training->unrolled);
    kann_delete(training->network);
    for (int t = 0; t < training->shape.window; t++) {
        free(training->inputs[t]);
        free(training->targets[t]);
    }
    free(training->inputs);
    free(training->targets);
    free(training->squares);
    free(training->tokens);
    *training = (struct training){.network = NULL};
}

static void write_one_hot(float *rows, const int *tokens, const struct shape *shape)
{
    memset(rows, 0, (size_t)shape->batch * (size_t)shape->vocabulary * sizeof(float));
    for (int b = 0; b < shape->batch; b++) rows[b * shape->vocabulary + tokens[b]] = 1;
}

/* Mean nats per character before the update. */
static float train_once(struct training *training)
{
    const struct shape *shape = &training->shape;
    for (int t = 0; t < shape->window; t++) {
        write_one_hot(training->inputs[t], training->tokens + t * shape->batch, shape);
        write_one_hot(training->targets[t], training->tokens + (t + 1) * shape->batch, shape);
    }
    const float loss = kann_cost(training->unrolled, 0, 1);
    kann_RMSprop(kann_size_var(training->network), 1e-3f, NULL, 0.9f, training->network->g, training->network->x,
                 training->squares);
    return loss;
}

static double training_rate(struct training *training, double seconds)
{
    const double start = now(), characters = (double)training->shape.window * training->shape.batch;
    for (double steps = 1;; steps++) {
        train_once(training);
        const double taken = now() - start;
        if (taken >= seconds) return steps * characters / taken;
    }
}

/* Opens the faster of the two ways to use threads. */
static void open_faster(struct training *training, const struct shape *shape)
{
    double halves;
    training_open(training, shape, shape->threads, 1);
    train_once(training);
    if (shape->threads == 1) return;
    halves = training_rate(training, 0.4);
    training_close(training);
    training_open(training, shape, 1, shape->threads);
    train_once(training);
    if (training_rate(training, 0.4) >= halves) return;
    training_close(training);
    training_open(training, shape, shape->threads, 1);
    train_once(training);
}

/* A repeated shape reuses its network. */
static double train(struct training *training, const struct shape *shape, double seconds)
{
    if (memcmp(&training->shape, shape, sizeof *shape) != 0) {
        training_close(training);
        open_faster(training, shape);
    }
    return training_rate(training, seconds);
}

static double answer(const char *question)
{
    static struct training training;
    struct shape s;
    double seconds;
    const int fields = sscanf(question, "train %d %d %d %d %d %d %lf", &s.layers, &s.hidden, &s.vocabulary, &s.batch,
                              &s.window, &s.threads, &seconds);
    return fields == 7 ? train(&training, &s, seconds) : 0;
}

#else /* ------------------------------------------------------------------ stepping */

#define MULTIPLIES "its own loops"

static int draw(const float *probabilities, int count)
{
    float rest = (float)kann_drand();
    int token = 0;
    while (token < count - 1 && (rest -= probabilities[token]) > 0) token++;
    return token;
}

static double stepping_rate(kann_t *network, int vocabulary, double seconds)
{
    float *input = take((size_t)vocabulary, sizeof(float));
    int token = 0;
    const double start = now();
    double steps = 0, taken;
    do {
        for (int i = 0; i < 16; i++) {
            input[token] = 1;
            const float *probabilities = kann_apply1(network, input);
            input[token] = 0;
            token = draw(probabilities, vocabulary);
        }
        steps += 16;
        taken = now() - start;
    } while (taken < seconds);
    free(input);
    return steps / taken;
}

/* One sequence. A second thread would not help. */
static double step(const struct shape *shape, double seconds)
{
    kann_t *network = new_network(shape);
    kann_rnn_start(network);
    stepping_rate(network, shape->vocabulary, seconds / 8); /* warm up */
    const double rate = stepping_rate(network, shape->vocabulary, seconds);
    kann_rnn_end(network);
    kann_delete(network);
    return rate;
}

static double answer(const char *question)
{
    struct shape s = {.window = 1};
    double seconds;
    const int fields = sscanf(question, "step %d %d %d %d %d %lf", &s.layers, &s.hidden, &s.vocabulary, &s.batch,
                              &s.threads, &seconds);
    return fields == 6 && s.batch == 1 ? step(&s, seconds) : 0;
}

#endif

int main(void)
{
    char line[200];
    printf("KANN %s, %s\n", KANN_VERSION, MULTIPLIES);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        const double rate = answer(line);
        if (rate > 0)
            printf("%.1f\n", rate);
        else
            printf("skip\n");
        fflush(stdout);
    }
    return 0;
}
