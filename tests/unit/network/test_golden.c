/* Compares the network with PyTorch: logits, loss, gradients and training runs of tests/golden/data. make_golden.py
 * computed them in float64. The tests use one, two and three threads and every kernel of this machine, each by itself
 * and with OpenBLAS's products. The relative error of a tensor is the largest absolute difference over the largest
 * absolute value. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/files/safetensors.h"
#include "model/generate/step.h"
#include "model/kernels/blas.h"
#include "model/text/vocabulary.h"
#include "model/train/learner.h"

#define DIRECTORY   "tests/golden/data/"
#define TOLERANCE   1e-4
#define MAX_THREADS 3 /* the batch of 3 shared as 3, 1 + 2 and 1 + 1 + 1 */
#define MAX_BATCH   8
#define MAX_VALUES  8192

static const char *const gradient_cases[] = {
    "lstm_1_onehot", "lstm_1_embedding", "lstm_2_onehot", "lstm_2_embedding", "lstm_2_resets", "lstm_1_tied",
    "gru_1_onehot",  "gru_1_embedding",  "gru_2_onehot",  "gru_2_embedding",  "gru_2_resets",  "gru_2_tied_resets",
    "rnn_1_onehot",  "rnn_1_embedding",  "rnn_2_onehot",  "rnn_2_embedding",  "rnn_2_resets",
};
static const char *const training_cases[] = {"train_rmsprop", "train_adam", "train_adamw", "train_sgd"};

struct golden {
    const char *name;
    struct safetensors file;
    json_t *about;
    struct network network;
    size_t B, T, windows, V;
    uint32_t reset_token;
};

/* One way to run a case. */
struct setting {
    const struct kernels *kernels;
    size_t threads;
};

/* ------------------------------------------------------------------ reading a case */

static double number(const struct golden *golden, const char *key)
{
    const char *text = json_string_value(json_object_get(golden->about, key));
    return text != NULL ? strtod(text, NULL) : 0;
}

static const struct safetensors_entry *entry(const struct golden *golden, const char *name)
{
    const struct safetensors_entry *found = safetensors_find(&golden->file, name);
    if (found == NULL) fail_msg("%s has no tensor %s", golden->name, name);
    return found;
}

static size_t read_floats(const struct golden *golden, const char *name, float *out, size_t room)
{
    const struct safetensors_entry *found = entry(golden, name);
    struct error err = {0};
    assert_true(found->count <= room);
    if (!safetensors_read_float(&golden->file, found, out, &err)) fail_msg("%s", err.message);
    return found->count;
}

static void read_ids(const struct golden *golden, size_t window, const char *what, uint32_t *ids)
{
    char name[64];
    snprintf(name, sizeof name, "%zu.%s", window, what);
    const struct safetensors_entry *found = entry(golden, name);
    assert_int_equal(found->type, SAFETENSORS_I64);
    assert_int_equal(found->count, golden->T * golden->B);
    for (size_t i = 0; i < found->count; i++) {
        int64_t id;
        memcpy(&id, found->data + i * sizeof id, sizeof id);
        ids[i] = (uint32_t)id;
    }
}

static void load_weights(struct golden *golden)
{
    for (size_t i = 0; i < golden->network.tensor_count; i++) {
        const struct tensor *tensor = &golden->network.tensors[i];
        const size_t count = tensor->rows * tensor->columns;
        assert_int_equal(read_floats(golden, tensor->name, tensor->data, count), count);
    }
}

static void open_case(struct golden *golden, const char *name)
{
    struct error err = {0};
    char path[256];
    snprintf(path, sizeof path, DIRECTORY "%s.safetensors", name);
    *golden = (struct golden){.name = name};
    if (!safetensors_open(&golden->file, path, &err)) fail_msg("%s", err.message);
    golden->about = json_loads(golden->file.metadata, 0, NULL);
    assert_non_null(golden->about);
    struct architecture a = {
        .layers = (uint32_t)number(golden, "layers"),
        .hidden_size = (uint32_t)number(golden, "hidden_size"),
        .embedding_size = (uint32_t)number(golden, "embedding_size"),
        .vocabulary_size = (uint32_t)number(golden, "vocabulary_size"),
        .tie_weights = number(golden, "tie_weights") != 0,
    };
    assert_true(cell_parse(json_string_value(json_object_get(golden->about, "cell")), &a.cell));
    golden->B = (size_t)number(golden, "batch");
    golden->T = (size_t)number(golden, "window");
    golden->windows = (size_t)number(golden, "windows");
    golden->V = a.vocabulary_size;
    const double reset = number(golden, "reset_token");
    golden->reset_token = reset < 0 ? TOKEN_NONE : (uint32_t)reset;
    assert_in_range(golden->B, 1, MAX_BATCH);
    if (!network_open(&golden->network, &a, &err)) fail_msg("%s", err.message);
    load_weights(golden);
}

static void close_case(struct golden *golden)
{
    network_close(&golden->network);
    json_decref(golden->about);
    safetensors_close(&golden->file);
}

/* ------------------------------------------------------------------ comparing and running */

static void assert_close(const struct golden *golden, const struct setting *setting, size_t window, const char *what,
                         const float *ours, const float *truth, size_t n)
{
    double difference = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(ours[i]));
        difference = fmax(difference, fabs((double)ours[i] - (double)truth[i]));
        scale = fmax(scale, fabs((double)truth[i]));
    }
    if (!(difference <= TOLERANCE * scale))
        fail_msg("%s, kernels %s, %zu threads, window %zu: %s is off by %.2g of %.2g", golden->name,
                 setting->kernels->name, setting->threads, window, what, difference, scale);
}

static void assert_tensor(const struct golden *golden, const struct setting *setting, size_t window, const char *what,
                          const float *ours, size_t n)
{
    static float truth[MAX_VALUES];
    char name[64];
    snprintf(name, sizeof name, "%zu.%s", window, what);
    assert_int_equal(read_floats(golden, name, truth, MAX_VALUES), n);
    assert_close(golden, setting, window, what, ours, truth, n);
}

static void assert_scalar(const struct golden *golden, const struct setting *setting, size_t window, const char *what,
                          double ours)
{
    const float value = (float)ours;
    assert_tensor(golden, setting, window, what, &value, 1);
}

typedef void check(struct golden *golden, const struct setting *setting);

/* Runs a check of a case with every kernel of this machine on 1 .. max_threads threads. */
static void with_every_setting(const char *name, size_t max_threads, check *run)
{
    struct golden golden;
    open_case(&golden, name);
    char names[128], *rest = names;
    snprintf(names, sizeof names, "%s", kernels_names());
    for (char *kernel; (kernel = strsep(&rest, ", ")) != NULL;) {
        if (*kernel == '\0') continue;
        struct kernels with_library;
        assert_non_null(kernels_select(kernel));
        blas_kernels(kernels_select(kernel), PRODUCTS_STREAMS, &with_library);
        for (size_t i = 0; i < 2 * max_threads; i++) {
            const struct setting setting = {.kernels = i % 2 == 0 ? kernels_select(kernel) : &with_library,
                                            .threads = 1 + i / 2};
            load_weights(&golden);
            run(&golden, &setting);
        }
    }
    close_case(&golden);
}

static struct learner *open_learner(struct golden *golden, const struct setting *setting)
{
    struct error err = {0};
    struct learner_options options = {
        .batch = golden->B,
        .window = golden->T,
        .threads = setting->threads,
        .reset_token = golden->reset_token,
        .kernels = setting->kernels,
        .optimizer =
            {
                .kind = OPTIMIZER_SGD,
                .rate = number(golden, "rate"),
                .momentum = number(golden, "momentum"),
                .decay = number(golden, "decay"),
                .beta1 = number(golden, "beta1"),
                .beta2 = number(golden, "beta2"),
                .epsilon = number(golden, "epsilon"),
                .weight_decay = number(golden, "weight_decay"),
                .clip = number(golden, "clip"),
            },
    };
    const char *kind = json_string_value(json_object_get(golden->about, "optimizer"));
    if (kind != NULL) assert_true(optimizer_parse(kind, &options.optimizer.kind));
    struct learner *learner = learner_new(&golden->network, &options, &err);
    if (learner == NULL) fail_msg("%s", err.message);
    return learner;
}

/* ------------------------------------------------------------------ the checks */

static void check_logits(struct golden *golden, const struct setting *setting)
{
    struct learner *learner = open_learner(golden, setting);
    uint32_t inputs[MAX_VALUES], targets[MAX_VALUES];
    float logits[MAX_VALUES];
    for (size_t w = 0; w < golden->windows; w++) {
        double loss;
        read_ids(golden, w, "inputs", inputs);
        read_ids(golden, w, "targets", targets);
        learner_logits(learner, golden->T, inputs, targets, logits, &loss);
        assert_tensor(golden, setting, w, "logits", logits, golden->T * golden->B * golden->V);
        assert_scalar(golden, setting, w, "loss", loss);
    }
    learner_free(learner);
}

static void check_gradients(struct golden *golden, const struct setting *setting)
{
    struct learner *learner = open_learner(golden, setting);
    struct network gradient;
    uint32_t inputs[MAX_VALUES], targets[MAX_VALUES];
    assert_true(network_open(&gradient, &golden->network.architecture, NULL));
    for (size_t w = 0; w < golden->windows; w++) {
        struct learner_result result;
        read_ids(golden, w, "inputs", inputs);
        read_ids(golden, w, "targets", targets);
        learner_gradient(learner, golden->T, inputs, targets, &gradient, &result);
        assert_true(result.finite);
        assert_scalar(golden, setting, w, "loss", result.loss);
        for (size_t i = 0; i < gradient.tensor_count; i++) {
            const struct tensor *tensor = &gradient.tensors[i];
            char name[64];
            snprintf(name, sizeof name, "gradient.%s", tensor->name);
            assert_tensor(golden, setting, w, name, tensor->data, tensor->rows * tensor->columns);
        }
    }
    network_close(&gradient);
    learner_free(learner);
}

/* Steps know no reset. The caller starts a sequence from a zero state. */
static void check_stepping(struct golden *golden, const struct setting *setting)
{
    struct stepper stepper;
    struct step_scratch scratch;
    struct error err = {0};
    uint32_t inputs[MAX_VALUES];
    float *states[MAX_BATCH], *logits[MAX_BATCH], of_step[MAX_VALUES];
    if (!stepper_open(&stepper, &golden->network, setting->kernels, &err)) fail_msg("%s", err.message);
    if (!step_scratch_open(&scratch, &stepper, golden->B, &err)) fail_msg("%s", err.message);
    for (size_t b = 0; b < golden->B; b++) {
        states[b] = aligned_alloc(ARENA_ALIGNMENT, stepper.state_size * sizeof(float));
        logits[b] = aligned_alloc(ARENA_ALIGNMENT, stepper.logits_size * sizeof(float));
        memset(states[b], 0, stepper.state_size * sizeof(float));
    }
    for (size_t w = 0; w < golden->windows; w++) {
        read_ids(golden, w, "inputs", inputs);
        for (size_t t = 0; t < golden->T; t++) {
            const uint32_t *tokens = inputs + t * golden->B;
            for (size_t b = 0; b < golden->B; b++)
                if (tokens[b] == golden->reset_token) memset(states[b], 0, stepper.state_size * sizeof(float));
            step(&stepper, &scratch, golden->B, tokens, states, logits);
            for (size_t b = 0; b < golden->B; b++)
                memcpy(of_step + (t * golden->B + b) * golden->V, logits[b], golden->V * sizeof(float));
        }
        assert_tensor(golden, setting, w, "logits", of_step, golden->T * golden->B * golden->V);
    }
    for (size_t b = 0; b < golden->B; b++) {
        free(states[b]);
        free(logits[b]);
    }
    step_scratch_close(&scratch);
    stepper_close(&stepper);
}

/* Compares changes, not weights: a change is small beside the weight, so an error in it would not show. */
static void assert_change(const struct golden *golden, const struct setting *setting, const struct tensor *tensor)
{
    static float start[MAX_VALUES], truth[MAX_VALUES], ours[MAX_VALUES];
    const size_t count = tensor->rows * tensor->columns;
    char name[64];
    snprintf(name, sizeof name, "trained.%s", tensor->name);
    assert_int_equal(read_floats(golden, tensor->name, start, MAX_VALUES), count);
    assert_int_equal(read_floats(golden, name, truth, MAX_VALUES), count);
    for (size_t i = 0; i < count; i++) {
        truth[i] -= start[i];
        ours[i] = tensor->data[i] - start[i];
    }
    assert_close(golden, setting, golden->windows, name, ours, truth, count);
}

static void check_training(struct golden *golden, const struct setting *setting)
{
    struct learner *learner = open_learner(golden, setting);
    uint32_t inputs[MAX_VALUES], targets[MAX_VALUES];
    for (size_t w = 0; w < golden->windows; w++) {
        struct learner_result result;
        read_ids(golden, w, "inputs", inputs);
        read_ids(golden, w, "targets", targets);
        learner_step(learner, golden->T, inputs, targets, number(golden, "rate"), &result);
        assert_true(result.finite);
        assert_scalar(golden, setting, w, "loss", result.loss);
        assert_scalar(golden, setting, w, "norm", result.gradient_norm);
    }
    for (size_t i = 0; i < golden->network.tensor_count; i++)
        assert_change(golden, setting, &golden->network.tensors[i]);
    learner_free(learner);
}

/* ------------------------------------------------------------------ the tests */

static void test_golden_logits_match_pytorch(void **state)
{
    with_every_setting(*state, MAX_THREADS, check_logits);
}

static void test_golden_gradients_match_pytorch(void **state)
{
    with_every_setting(*state, MAX_THREADS, check_gradients);
}

static void test_golden_stepping_matches_pytorch(void **state)
{
    with_every_setting(*state, 1, check_stepping);
}

static void test_golden_training_matches_pytorch(void **state)
{
    with_every_setting(*state, MAX_THREADS, check_training);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct CMUnitTest tests[3 * COUNT(gradient_cases) + COUNT(training_cases)];
static char names[COUNT(tests)][96];
static size_t test_count;

static void add(const char *property, CMUnitTestFunction function, const char *name)
{
    snprintf(names[test_count], sizeof names[0], "test_golden_%s (%s)", property, name);
    tests[test_count] =
        (struct CMUnitTest){.name = names[test_count], .test_func = function, .initial_state = (void *)(uintptr_t)name};
    test_count++;
}

int main(void)
{
    struct error err = {0};
    if (!blas_load(&err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < COUNT(gradient_cases); i++) {
        add("logits_match_pytorch", test_golden_logits_match_pytorch, gradient_cases[i]);
        add("gradients_match_pytorch", test_golden_gradients_match_pytorch, gradient_cases[i]);
        add("stepping_matches_pytorch", test_golden_stepping_matches_pytorch, gradient_cases[i]);
    }
    for (size_t i = 0; i < COUNT(training_cases); i++)
        add("training_matches_pytorch", test_golden_training_matches_pytorch, training_cases[i]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
