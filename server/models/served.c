#include "server/models/served.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "model/network/quantize.h"
#include "server/models/card.h"

#define WARM_STEPS 16 /* tokens that a new model reads before requests use it */

static uint64_t fingerprint_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / golden ratio */
    return hash ^ hash >> 32;
}

uint64_t served_fingerprint(const char *directory)
{
    static const char *const names[] = {".", "config.json", "vocabulary.json", "model.safetensors"};
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat info;
        if (fd < 0 || fstatat(fd, names[i], &info, 0) != 0) info = (struct stat){0};
        hash = fingerprint_mix(fingerprint_mix(hash, info.st_dev), info.st_ino);
        hash = fingerprint_mix(fingerprint_mix(hash, (uint64_t)info.st_mtim.tv_sec), (uint64_t)info.st_mtim.tv_nsec);
        hash = fingerprint_mix(hash, (uint64_t)info.st_size);
    }
    if (fd >= 0) close(fd);
    return hash;
}

static bool served_read_model(struct served *served, const struct served_options *options, const char *directory,
                              struct error *err)
{
    served->fingerprint = served_fingerprint(directory);
    if (!model_load(&served->model, directory, err)) return false;
    served->card = model_card(&served->model, directory, err);
    if (!served->card) return false;
    const enum kernel_format format = kernel_format_choose(options->weights, served->model.weights);
    if (!stepper_open_as(&served->stepper, &served->model.network, options->kernels, format, err)) return false;
    served->stepper.library = options->library;
    network_digest(&served->model.network, served->weights);
    network_close(&served->model.network);
    served->model.network = (struct network){0};
    return true;
}

/* Feeds a few tokens, which brings code and weights into memory and caches. */
static bool served_warm(const struct stepper *stepper, struct error *err)
{
    struct step_scratch scratch = {0};
    struct arena arena = {0};
    float *state = arena_alloc(&arena, stepper->state_size, sizeof *state, "a hidden state", err);
    float *logits = arena_alloc(&arena, stepper->logits_size, sizeof *logits, "logits", err);
    const bool good = state && logits && step_scratch_open(&scratch, stepper, 1, err);
    for (uint32_t i = 0; good && i < WARM_STEPS; i++) {
        const uint32_t token = i % stepper->architecture.vocabulary_size;
        step(stepper, &scratch, 1, &token, &state, &logits);
    }
    step_scratch_close(&scratch);
    arena_free(&arena);
    return good;
}

static bool served_start_engine(struct served *served, const struct served_options *options, struct error *err)
{
    struct engine_options engine = options->engine;
    engine.stepper = &served->stepper;
    engine.model = served->version;
    if (engine.cache && !state_cache_add_model(engine.cache, served->version, served->stepper.state_size,
                                               vocabulary_size(served->model.vocabulary), err))
        return false;
    served->engine = engine_new(&engine, err);
    if (!served->engine && engine.cache) state_cache_drop_model(engine.cache, served->version);
    return served->engine;
}

struct served *served_new(const struct served_options *options, const char *directory, uint64_t name_id,
                          struct error *err)
{
    static atomic_uint_fast64_t versions;
    struct served *served = calloc(1, sizeof *served);
    if (!served) {
        error_set_no_memory(err, sizeof *served, "a model");
        return NULL;
    }
    served->name_id = name_id;
    served->version = atomic_fetch_add(&versions, 1) + 1;
    if (served_read_model(served, options, directory, err) && served_warm(&served->stepper, err) &&
        served_start_engine(served, options, err))
        return served;
    served_free(served);
    return NULL;
}

void served_free(struct served *served)
{
    json_decref(served->card);
    engine_free(served->engine);
    stepper_close(&served->stepper);
    model_close(&served->model);
    free(served);
}

struct state_owner served_state_owner(const struct served *served)
{
    struct state_owner owner = {.model = served->model.name,
                                .stepper = &served->stepper,
                                .vocabulary_size = vocabulary_size(served->model.vocabulary)};
    memcpy(owner.weights, served->weights, sizeof owner.weights);
    return owner;
}

int64_t served_modified(const struct served *served)
{
    struct tm utc = {0};
    const char *text = json_string_value(json_object_get(served->card, "modified_at"));
    return text && strptime(text, MODEL_CARD_TIME, &utc) ? timegm(&utc) : 0;
}
