/* server/models: acquired models, holders of the old model after a swap, the choice of the default, a registry that is
 * opened again, failing allocations and system calls, and changes from several threads. */
#include "server/models/registry.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "model/files/checkpoint.h"
#include "tests/unit/engine/engine_support.h"

struct bench {
    char *directory;
    const char *path, *state_path; /* model.path, server.state_dir */
    struct world world;
    struct state_dir *state;
    struct sessions *sessions;
    struct state_cache *cache;
    struct registry *registry;
};

/* A model directory; the size tells models apart. */
static void publish(const char *path, uint32_t hidden)
{
    struct error err = {0};
    struct world world;
    const struct architecture architecture = {
        .cell = CELL_GRU, .layers = 1, .hidden_size = hidden, .vocabulary_size = 10};
    world_open(&world, &architecture, "portable", -1e9f);
    if (!checkpoint_save(path, &world.network, world.vocabulary, NULL, NULL, &err)) fail_msg("%s", err.message);
    world_close(&world);
}

static const char *model_path(const struct bench *bench, const char *name)
{
    char relative[128];
    snprintf(relative, sizeof relative, "models/%s", name);
    return in_dir(bench->state_path, relative);
}

static bool open_registry(struct bench *bench, struct error *err)
{
    const struct registry_options options = {
        .state = bench->state,
        .path = bench->path,
        .path_origin = "model.path",
        .path_required = true,
        .sessions = bench->sessions,
        .served = {.kernels = kernels_select("portable"),
                   .engine = {.cache = bench->cache,
                              .threads = 1,
                              .max_batch = 4,
                              .queue_limit = 4,
                              .share_ns = ENGINE_SHARE_NS,
                              .cache_interval = 64}},
    };
    bench->registry = registry_new(&options, err);
    return bench->registry != NULL;
}

static void close_registry(struct bench *bench)
{
    if (!bench->registry) return;
    registry_stop(bench->registry);
    registry_free(bench->registry);
    bench->registry = NULL;
}

static void reopen(struct bench *bench)
{
    struct error err = {0};
    close_registry(bench);
    if (!open_registry(bench, &err)) fail_msg("%s", err.message);
}

/* A state directory with the models "a" (4) and "b" (5), and model.path with "single" (3). */
static int setup(void **state)
{
    const struct sessions_options options = {.max_count = 10, .max_name = 16, .ttl_ns = UINT64_MAX / 4};
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    log_configure(LOG_ERROR + 1, LOG_LOGFMT); /* the tests load models that fail, which is logged */
    skip_fsync = true;
    bench->directory = temp_dir_new();
    bench->path = in_dir(bench->directory, "single");
    bench->state_path = in_dir(bench->directory, "state");
    publish(bench->path, 3);
    bench->state = state_dir_open(bench->state_path, NULL);
    publish(model_path(bench, "a"), 4);
    publish(model_path(bench, "b"), 5);
    bench->sessions = sessions_new(&options, NULL);
    bench->cache = state_cache_new(1 << 20, NULL);
    *state = bench;
    reopen(bench);
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    close_registry(bench);
    state_cache_free(bench->cache);
    sessions_free(bench->sessions);
    state_dir_close(bench->state);
    temp_dir_remove(bench->directory);
    free(bench);
    skip_fsync = false;
    log_configure(LOG_INFO, LOG_LOGFMT);
    return 0;
}

static struct served *acquire(const struct bench *bench, const char *name)
{
    return registry_acquire(bench->registry, name, name ? strlen(name) : 0, NULL);
}

/* The size of the model of that name (NULL: the default); 0: acquiring it fails with this code. */
static uint32_t size_of(const struct bench *bench, const char *name, enum error_code code)
{
    struct error err = {0};
    struct served *served = registry_acquire(bench->registry, name, name ? strlen(name) : 0, &err);
    const uint32_t size = served ? served->stepper.architecture.hidden_size : 0;
    assert_int_equal(err.code, code);
    registry_release(served);
    return size;
}

static void load(const struct bench *bench, const char *name)
{
    struct error err = {0};
    if (!registry_load(bench->registry, name, &err)) fail_msg("%s", err.message);
}

static void damage(const char *path)
{
    write_text(in_dir(path, "vocabulary.json"), "{}");
}

static void test_registry_loads_the_default_alone(void **state)
{
    const struct bench *bench = *state;
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 3);
    assert_int_equal(size_of(bench, "single", ERROR_NONE), 3);
    assert_int_equal(size_of(bench, "a", ERROR_CONFLICT), 0);
    assert_int_equal(size_of(bench, "none", ERROR_NOT_FOUND), 0);
    struct error err = {0};
    assert_null(registry_acquire(bench->registry, "a\0b", 3, &err)); /* names are compared whole */
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    load(bench, "a");
    assert_int_equal(size_of(bench, "a", ERROR_NONE), 4);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 3);
}

static void test_registry_swap_leaves_the_old_model_to_those_who_hold_it(void **state)
{
    const struct bench *bench = *state;
    load(bench, "a");
    struct served *old = acquire(bench, "a");
    publish(model_path(bench, "a"), 6);
    load(bench, "a");
    struct served *new = acquire(bench, "a");
    assert_int_equal(old->stepper.architecture.hidden_size, 4);
    assert_int_equal(new->stepper.architecture.hidden_size, 6);
    assert_int_equal(old->name_id, new->name_id);
    assert_true(old->version != new->version);
    /* Its engine still works. */
    const struct world world = {.vocabulary = old->model.vocabulary, .stepper = old->stepper};
    struct test_job job;
    job_open(&job, &world, &(struct generation_request){.prompt = "abc", .prompt_bytes = 3, .length = 5});
    assert_true(job_submit(old->engine, &job, NULL));
    job_wait(&job);
    assert_int_equal(job.job.outcome, ENGINE_DONE);
    job_close(&job);
    registry_release(old);
    registry_release(new);
}

/* The last reference may be dropped anywhere, also after registry_stop(). */
static void test_registry_stop_ends_the_jobs_of_all_models(void **state)
{
    struct bench *bench = *state;
    load(bench, "a");
    struct served *held[2] = {acquire(bench, "a")};
    load(bench, "a");
    held[1] = acquire(bench, "a");
    struct test_job jobs[2];
    for (size_t i = 0; i < 2; i++) {
        const struct world world = {.vocabulary = held[i]->model.vocabulary, .stepper = held[i]->stepper};
        job_open(&jobs[i], &world, &(struct generation_request){.prompt = "", .length = LONG, .ignore_eos = true});
        assert_true(job_submit(held[i]->engine, &jobs[i], NULL));
    }
    registry_stop(bench->registry);
    struct error err = {0};
    assert_false(registry_load(bench->registry, "b", &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    for (size_t i = 0; i < 2; i++) {
        job_wait(&jobs[i]);
        assert_int_equal(jobs[i].job.outcome, ENGINE_STOPPED);
        job_close(&jobs[i]);
        registry_release(held[i]);
    }
    registry_free(bench->registry);
    bench->registry = NULL;
}

static void test_registry_swap_empties_the_cache_and_loses_the_sessions_of_the_old_model(void **state)
{
    const struct bench *bench = *state;
    static const uint32_t tokens[] = {1, 2, 3};
    float states[64] = {0};
    load(bench, "a");
    struct served *one = acquire(bench, "single"), *old = acquire(bench, "a");
    struct served *const both[] = {one, old};
    for (size_t i = 0; i < 2; i++) {
        state_cache_store(bench->cache, both[i]->version, tokens, 3, states);
        struct session *session = sessions_begin(
            bench->sessions,
            &(struct session_key){both[i]->name_id, both[i]->version, "s", 1, both[i]->stepper.state_size}, 0, NULL);
        sessions_end(bench->sessions, session, true, 1, 0);
    }
    load(bench, "a");
    assert_int_equal(state_cache_numbers(bench->cache).states, 1);
    assert_int_equal(state_cache_find(bench->cache, one->version, tokens, 3, states), 3);
    state_cache_store(bench->cache, old->version, tokens, 3, states); /* a late request of the old one */
    assert_int_equal(state_cache_numbers(bench->cache).states, 1);
    struct served *new = acquire(bench, "a");
    struct served *const now[] = {one, old, new};
    for (size_t i = 0; i < 3; i++) {
        struct session *session = sessions_begin(
            bench->sessions,
            &(struct session_key){now[i]->name_id, now[i]->version, "s", 1, now[i]->stepper.state_size}, 0, NULL);
        assert_int_equal(session_was_lost(session), i > 0);
        assert_int_equal(session_is_fresh(session), i > 0);
        sessions_end(bench->sessions, session, false, 0, 0);
    }
    registry_release(one);
    registry_release(old);
    registry_release(new);
}

static void test_registry_remembers_the_default(void **state)
{
    struct bench *bench = *state;
    assert_true(registry_set_default(bench->registry, "b", NULL));
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 5);
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 5);
    assert_int_equal(size_of(bench, "single", ERROR_CONFLICT), 0);
    struct error err = {0};
    assert_false(registry_set_default(bench->registry, "none", &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    damage(model_path(bench, "b"));
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 3);
    assert_true(registry_set_default(bench->registry, "single", NULL));
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 3);
}

static void test_registry_first_model_becomes_the_default(void **state)
{
    struct bench *bench = *state;
    bench->path = NULL;
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_UNAVAILABLE), 0); /* there are two */
    load(bench, "b");
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 5);
    load(bench, "a");
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 5);
    assert_int_equal(unlink(in_dir(bench->state_path, "default")), 0);
    assert_true(directory_remove(model_path(bench, "b"), NULL));
    reopen(bench);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 4); /* the only one */
}

static void test_registry_model_path_that_does_not_load_is_an_error(void **state)
{
    struct bench *bench = *state;
    struct error err = {0};
    close_registry(bench);
    damage(bench->path);
    assert_false(open_registry(bench, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
}

static void test_registry_unloads_and_removes_all_but_the_default(void **state)
{
    const struct bench *bench = *state;
    struct error err = {0};
    load(bench, "a");
    struct served *held = acquire(bench, "a");
    assert_true(registry_unload(bench->registry, "a", NULL));
    assert_int_equal(size_of(bench, "a", ERROR_CONFLICT), 0);
    assert_int_equal(held->stepper.architecture.hidden_size, 4);
    registry_release(held);
    assert_false(registry_unload(bench->registry, "single", &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    error_clear(&err);
    assert_true(registry_set_default(bench->registry, "a", NULL));
    assert_false(registry_remove(bench->registry, "a", &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    error_clear(&err);
    assert_false(registry_remove(bench->registry, "single", &err)); /* it is the model of model.path */
    assert_int_equal(err.code, ERROR_CONFLICT);
    error_clear(&err);
    assert_false(registry_remove(bench->registry, "nobody", &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    load(bench, "b");
    assert_true(registry_remove(bench->registry, "b", NULL));
    assert_int_equal(size_of(bench, "b", ERROR_NOT_FOUND), 0);
    assert_int_equal(count_entries(in_dir(bench->state_path, "models")), 1);
}

static void test_registry_reload_takes_what_has_changed(void **state)
{
    const struct bench *bench = *state;
    load(bench, "a");
    load(bench, "b");
    struct served *same = acquire(bench, "b");
    publish(model_path(bench, "a"), 7);
    publish(model_path(bench, "c"), 8);
    write_text(in_dir(bench->state_path, "default"), "c\n");
    registry_reload(bench->registry);
    assert_int_equal(size_of(bench, "a", ERROR_NONE), 7);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 8);
    struct served *now = acquire(bench, "b");
    assert_ptr_equal(same, now);
    registry_release(same);
    registry_release(now);
    damage(model_path(bench, "a"));
    write_text(in_dir(bench->state_path, "default"), "none");
    registry_reload(bench->registry);
    assert_int_equal(size_of(bench, "a", ERROR_NONE), 7);
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 8);
}

static json_t *list_models(struct registry *registry)
{
    json_t *list = json_array(), *model;
    for (const void *position = NULL; registry_next(registry, &position, &model, NULL);)
        json_array_append_new(list, model);
    return list;
}

static const char *text_at(const json_t *list, const char *name, const char *key)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(json_object_get(one, "name")), name) ==
                                         0) return json_string_value(json_object_get(one, key));
    return NULL;
}

static void test_registry_list_shows_what_does_not_load_with_its_error(void **state)
{
    const struct bench *bench = *state;
    struct error err = {0};
    load(bench, "a");
    damage(model_path(bench, "a"));
    assert_false(registry_load(bench->registry, "a", &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    write_text(in_dir(model_path(bench, "b"), "config.json"), "{}");
    json_t *list = list_models(bench->registry);
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(text_at(list, "a", "state"), "loaded");
    assert_non_null(strstr(text_at(list, "a", "error"), "vocabulary.json"));
    assert_string_equal(text_at(list, "a", "cell"), "gru");
    assert_string_equal(text_at(list, "b", "state"), "unloaded");
    assert_non_null(strstr(text_at(list, "b", "error"), "config.json"));
    assert_null(text_at(list, "b", "cell"));
    assert_null(text_at(list, "single", "error"));
    json_decref(list);
    assert_null(registry_describe(bench->registry, "none", NULL));
}

/* ---- failures ---- */

static bool load_a(void *context, struct error *err)
{
    const struct bench *bench = context;
    return registry_load(bench->registry, "a", err);
}

static bool open_and_close(void *context, struct error *err)
{
    struct bench *bench = context;
    const bool done = open_registry(bench, err);
    close_registry(bench);
    return done;
}

static void test_registry_survives_failing_allocations(void **state)
{
    struct bench *bench = *state;
    load(bench, "a");
    assert_survives_failing_allocations(load_a, bench);
    assert_int_equal(size_of(bench, "a", ERROR_NONE), 4);
    close_registry(bench);
    assert_survives_failing_allocations(open_and_close, bench);
    reopen(bench);
}

static void test_registry_default_that_cannot_be_written_stays(void **state)
{
    struct bench *bench = *state;
    load(bench, "a");
    for (size_t n = 1;; n++) {
        struct error err = {0};
        fail_call(n, ENOSPC);
        const bool done = registry_set_default(bench->registry, "a", &err);
        if (!fail_call_done()) break;
        assert_false(done);
        if (size_of(bench, NULL, ERROR_NONE) != 3) fail_msg("call %zu: %s", n, err.message);
    }
    assert_int_equal(size_of(bench, NULL, ERROR_NONE), 4);
}

/* ---- several threads ---- */

struct user {
    const struct bench *bench;
    atomic_bool *end;
    size_t used;
    pthread_t thread;
};

static void *use(void *argument)
{
    struct user *user = argument;
    static const char *const names[] = {"a", "single", "b", NULL};
    for (size_t i = 0; !atomic_load(user->end); i++) {
        struct served *served = acquire(user->bench, names[i % 4]);
        if (!served) continue;
        const struct world world = {.vocabulary = served->model.vocabulary, .stepper = served->stepper};
        struct test_job job;
        job_open(&job, &world, &(struct generation_request){.prompt = "abc", .prompt_bytes = 3, .length = 3});
        job.job.use_cache = true;
        if (job_submit(served->engine, &job, NULL)) {
            job_wait(&job);
            assert_int_equal(job.job.outcome, ENGINE_DONE);
            user->used++;
        }
        job_close(&job);
        registry_release(served);
    }
    return NULL;
}

static void *describe(void *argument)
{
    struct user *user = argument;
    while (!atomic_load(user->end)) json_decref(list_models(user->bench->registry));
    return NULL;
}

static void test_registry_changes_while_it_is_used(void **state)
{
    const struct bench *bench = *state;
    atomic_bool end = false;
    struct user users[3] = {{bench, &end, 0, 0}, {bench, &end, 0, 0}, {bench, &end, 0, 0}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&users[i].thread, NULL, i < 2 ? use : describe, &users[i]), 0);
    for (int i = 0; i < 20; i++) {
        load(bench, "a");
        load(bench, "b");
        assert_true(registry_set_default(bench->registry, i % 2 ? "a" : "single", NULL));
        assert_true(registry_unload(bench->registry, "b", NULL));
        registry_reload(bench->registry);
    }
    atomic_store(&end, true);
    for (size_t i = 0; i < 3; i++) pthread_join(users[i].thread, NULL);
    assert_true(users[0].used > 0 && users[1].used > 0);
}

#define REGISTRY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REGISTRY_TEST(test_registry_loads_the_default_alone),
        REGISTRY_TEST(test_registry_swap_leaves_the_old_model_to_those_who_hold_it),
        REGISTRY_TEST(test_registry_stop_ends_the_jobs_of_all_models),
        REGISTRY_TEST(test_registry_swap_empties_the_cache_and_loses_the_sessions_of_the_old_model),
        REGISTRY_TEST(test_registry_remembers_the_default),
        REGISTRY_TEST(test_registry_first_model_becomes_the_default),
        REGISTRY_TEST(test_registry_model_path_that_does_not_load_is_an_error),
        REGISTRY_TEST(test_registry_unloads_and_removes_all_but_the_default),
        REGISTRY_TEST(test_registry_reload_takes_what_has_changed),
        REGISTRY_TEST(test_registry_list_shows_what_does_not_load_with_its_error),
        REGISTRY_TEST(test_registry_survives_failing_allocations),
        REGISTRY_TEST(test_registry_default_that_cannot_be_written_stays),
        REGISTRY_TEST(test_registry_changes_while_it_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
