#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "server/engine/sessions.h"
#include "tests/unit/support.h"

#define MODEL   3
#define VERSION 7
#define STATE   4
#define TTL     1000

static struct sessions *sessions_of(size_t max_count)
{
    const struct sessions_options options = {.max_count = max_count, .max_name = 16, .ttl_ns = TTL};
    struct sessions *sessions = sessions_new(&options, NULL);
    assert_non_null(sessions);
    return sessions;
}

static struct session *begin(struct sessions *sessions, const char *name, uint64_t now)
{
    return sessions_begin(sessions, &(struct session_key){MODEL, VERSION, name, strlen(name), STATE}, now, NULL);
}

/* A request that leaves `value` in the session. */
static void leave(struct sessions *sessions, const char *name, float value, uint64_t now)
{
    struct session *session = begin(sessions, name, now);
    assert_non_null(session);
    for (size_t i = 0; i < STATE; i++) session_next_state(session)[i] = value;
    sessions_end(sessions, session, true, (uint32_t)value, now);
}

/* What a request finds in the session; -1: it is fresh. Changes nothing but the time of its last use. */
static float look(struct sessions *sessions, const char *name, uint64_t now)
{
    struct session *session = begin(sessions, name, now);
    assert_non_null(session);
    const float value = session_is_fresh(session) ? -1 : session_state(session)[STATE - 1];
    if (value >= 0) assert_int_equal(session_pending(session), (uint32_t)value);
    session_next_state(session)[STATE - 1] = 99; /* without keeping it */
    sessions_end(sessions, session, false, 98, now);
    return value;
}

static void test_session_continues_where_its_name_last_ended(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    assert_true(look(sessions, "a", 0) == -1);
    assert_int_equal(sessions_count(sessions), 0); /* a request that failed leaves no session behind */
    leave(sessions, "a", 1, 0);
    leave(sessions, "b", 2, 0);
    assert_true(look(sessions, "a", 0) == 1);
    leave(sessions, "a", 3, 0);
    assert_true(look(sessions, "a", 0) == 3);
    assert_true(look(sessions, "b", 0) == 2);
    assert_true(look(sessions, "ab", 0) == -1);
    sessions_free(sessions);
}

static void test_session_in_use_refuses_a_second_request(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    struct error err = {0};
    struct session *first = begin(sessions, "a", 0), *other = begin(sessions, "b", 0);
    assert_non_null(first);
    assert_non_null(other);
    assert_null(sessions_begin(sessions, &(struct session_key){MODEL, VERSION, "a", 1, STATE}, 0, &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "\"a\""));
    sessions_end(sessions, first, false, 0, 0);
    sessions_end(sessions, other, false, 0, 0);
    assert_true(look(sessions, "a", 0) == -1);
    sessions_free(sessions);
}

static void test_session_name_is_restricted_text(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    static const char *const bad[] = {"", "12345678901234567", "a b", "\xC3\xA9", "a\n", "a\"", "a%20"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        assert_null(
            sessions_begin(sessions, &(struct session_key){MODEL, VERSION, bad[i], strlen(bad[i]), STATE}, 0, &err));
        assert_int_equal(err.code, ERROR_INVALID);
    }
    struct error err = {0};
    assert_null(sessions_begin(sessions, &(struct session_key){MODEL, VERSION, "a\0b", 3, STATE}, 0, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    leave(sessions, "Az09._:@/-567890", 1, 0);
    assert_true(look(sessions, "Az09._:@/-567890", 0) == 1);
    sessions_free(sessions);
}

static void test_session_expires_after_its_last_use(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    leave(sessions, "a", 1, 0);
    leave(sessions, "b", 2, 500);
    assert_true(look(sessions, "a", TTL - 1) == 1); /* a use, too */
    assert_true(look(sessions, "b", 500 + TTL) == -1);
    assert_true(look(sessions, "a", 2 * TTL - 2) == 1);
    assert_true(look(sessions, "a", 3 * TTL - 2) == -1);
    assert_int_equal(sessions_count(sessions), 0);
    struct session *busy = begin(sessions, "a", 0);
    leave(sessions, "b", 1, 10 * TTL);
    session_next_state(busy)[STATE - 1] = 5;
    sessions_end(sessions, busy, true, 5, 10 * TTL); /* as long as it is busy it does not */
    assert_true(look(sessions, "a", 10 * TTL) == 5);
    assert_true(look(sessions, "a", 5) == 5); /* clocks of two threads may differ by a little */
    sessions_free(sessions);
}

static void test_session_least_recently_used_makes_room(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(3);
    leave(sessions, "a", 1, 0);
    leave(sessions, "b", 2, 1);
    leave(sessions, "c", 3, 2);
    assert_true(look(sessions, "a", 3) == 1);
    leave(sessions, "d", 4, 4);
    assert_int_equal(sessions_count(sessions), 3);
    assert_true(look(sessions, "a", 5) == 1);
    assert_true(look(sessions, "c", 5) == 3);
    assert_true(look(sessions, "d", 5) == 4);
    struct session *busy[3] = {begin(sessions, "a", 6), begin(sessions, "c", 6), begin(sessions, "d", 6)};
    struct error err = {0};
    assert_null(sessions_begin(sessions, &(struct session_key){MODEL, VERSION, "b", 1, STATE}, 6, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    for (size_t i = 0; i < 3; i++) sessions_end(sessions, busy[i], false, 0, 7);
    assert_true(look(sessions, "b", 8) == -1);
    sessions_free(sessions);
}

static void test_session_belongs_to_a_model(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    leave(sessions, "a", 1, 0);
    struct session *other = sessions_begin(sessions, &(struct session_key){4, 8, "a", 1, STATE}, 0, NULL);
    assert_true(session_is_fresh(other));
    assert_false(session_was_lost(other));
    sessions_end(sessions, other, true, 0, 0);
    sessions_drop_version(sessions, VERSION);
    other = sessions_begin(sessions, &(struct session_key){4, 8, "a", 1, STATE}, 0, NULL);
    assert_false(session_is_fresh(other));
    sessions_end(sessions, other, false, 0, 0);
    sessions_free(sessions);
}

/* A request for the session under a version; whether it was told that its state is lost. */
static bool is_lost(struct sessions *sessions, uint64_t version, bool keep)
{
    struct session *session = sessions_begin(sessions, &(struct session_key){MODEL, version, "a", 1, STATE}, 0, NULL);
    assert_non_null(session);
    const bool lost = session_was_lost(session);
    assert_true(!lost || session_is_fresh(session));
    session_next_state(session)[STATE - 1] = 1;
    sessions_end(sessions, session, keep, 1, 0);
    return lost;
}

static void test_session_of_another_version_starts_afresh_and_says_so(void **state)
{
    (void)state;
    for (int dropped = 0; dropped < 2; dropped++) {
        struct sessions *sessions = sessions_of(10);
        leave(sessions, "a", 1, 0);
        if (dropped) sessions_drop_version(sessions, VERSION);
        assert_int_equal(sessions_count(sessions), 1);
        assert_true(is_lost(sessions, 8, false)); /* a request that failed has told nobody */
        assert_true(is_lost(sessions, 8, true));
        assert_false(is_lost(sessions, 8, true));
        sessions_drop_version(sessions, VERSION); /* has no state any more */
        assert_false(is_lost(sessions, 8, true));
        sessions_free(sessions);
    }
}

static void test_session_in_use_loses_its_state_at_its_end(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_of(10);
    leave(sessions, "a", 1, 0);
    struct session *busy = begin(sessions, "a", 0);
    sessions_drop_version(sessions, VERSION);
    assert_true(session_state(busy)[0] == 1); /* what runs goes on with it */
    sessions_end(sessions, busy, true, 2, 0);
    assert_true(is_lost(sessions, 8, true));
    assert_false(is_lost(sessions, 8, true));
    sessions_free(sessions);
}

struct visitor {
    pthread_t thread;
    struct sessions *sessions;
    uint64_t seed;
    size_t served, refused, torn;
};

/* The state of a session is all one number: never a mixture of two requests'. */
static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    struct rng rng;
    rng_seed(&rng, visitor->seed, 0);
    for (size_t i = 0; i < 5000; i++) {
        const char name = (char)('a' + rng_below(&rng, 5));
        struct session *session =
            sessions_begin(visitor->sessions, &(struct session_key){MODEL, VERSION, &name, 1, STATE}, i, NULL);
        if (!session) {
            visitor->refused++;
            continue;
        }
        visitor->served++;
        if (!session_is_fresh(session))
            for (size_t j = 1; j < STATE; j++) visitor->torn += session_state(session)[j] != session_state(session)[0];
        for (size_t j = 0; j < STATE; j++) session_next_state(session)[j] = (float)i;
        sessions_end(visitor->sessions, session, rng_below(&rng, 4) > 0, 0, i);
    }
    return NULL;
}

static void test_sessions_serve_threads_at_once(void **state)
{
    (void)state;
    struct visitor visitors[4];
    struct sessions *sessions = sessions_of(4);
    for (uint64_t i = 0; i < 4; i++) {
        visitors[i] = (struct visitor){.sessions = sessions, .seed = i};
        assert_int_equal(pthread_create(&visitors[i].thread, NULL, visit, &visitors[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(visitors[i].thread, NULL);
        assert_int_equal(visitors[i].served + visitors[i].refused, 5000);
        assert_true(visitors[i].served > 0);
        assert_int_equal(visitors[i].torn, 0);
    }
    sessions_free(sessions);
}

static bool use(void *context, struct error *err)
{
    (void)context;
    const struct sessions_options options = {.max_count = 2, .max_name = 16, .ttl_ns = TTL};
    struct sessions *sessions = sessions_new(&options, err);
    struct session *session =
        sessions ? sessions_begin(sessions, &(struct session_key){MODEL, VERSION, "a", 1, STATE}, 0, err) : NULL;
    if (session) sessions_end(sessions, session, true, 0, 0);
    sessions_free(sessions);
    return session != NULL;
}

static void test_sessions_survive_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(use, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_continues_where_its_name_last_ended),
        cmocka_unit_test(test_session_in_use_refuses_a_second_request),
        cmocka_unit_test(test_session_name_is_restricted_text),
        cmocka_unit_test(test_session_expires_after_its_last_use),
        cmocka_unit_test(test_session_least_recently_used_makes_room),
        cmocka_unit_test(test_session_belongs_to_a_model),
        cmocka_unit_test(test_session_of_another_version_starts_afresh_and_says_so),
        cmocka_unit_test(test_session_in_use_loses_its_state_at_its_end),
        cmocka_unit_test(test_sessions_serve_threads_at_once),
        cmocka_unit_test(test_sessions_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
