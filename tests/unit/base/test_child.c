/* base/child: the test program is its own child. The first argument says what the child does. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "tests/unit/support.h"

static atomic_bool cancelled;

static struct child_result run(const char *what, const char *more, double seconds)
{
    const char *const arguments[] = {what, more, NULL};
    const struct child_options options = {arguments, "/", seconds, &cancelled};
    struct child_result result;
    struct error err = {0};
    if (!child_run(&options, &result, &err)) fail_msg("%s", err.message);
    return result;
}

static void test_exit_code_and_message(void **state)
{
    (void)state;
    struct child_result result = run("say", "that it is well", 60);
    assert_int_equal(result.exit_code, 3);
    assert_string_equal(result.message, "that it is well\n");
}

static void test_only_the_end_of_a_long_message_is_kept(void **state)
{
    (void)state;
    struct child_result result = run("say much", NULL, 60);
    assert_int_equal(strlen(result.message), sizeof result.message - 1);
    assert_string_equal(result.message + sizeof result.message - 5, "end\n");
}

static void test_a_child_that_dies_or_does_not_end(void **state)
{
    (void)state;
    assert_int_equal(run("crash", NULL, 60).exit_code, -1);
    assert_int_equal(run("wait", NULL, 0.2).exit_code, -1);
}

static void test_nothing_is_inherited(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDONLY); // NOLINT(android-cloexec-open): on purpose
    assert_true(fd > STDERR_FILENO);
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    assert_int_equal(run("look around", NULL, 60).exit_code, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(fd);
}

static void test_cancelling(void **state)
{
    (void)state;
    const char *const arguments[] = {"wait", NULL};
    const struct child_options options = {arguments, "/", 60, &cancelled};
    struct child_result result;
    struct error err = {0};
    atomic_store(&cancelled, true);
    assert_false(child_run(&options, &result, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    atomic_store(&cancelled, false);
    const struct child_options nowhere = {arguments, "/nowhere", 60, &cancelled};
    error_clear(&err);
    assert_false(child_run(&nowhere, &result, &err));
    assert_non_null(strstr(err.message, "could not start"));
}

/* 0: nothing but the three descriptors, "/" and no blocked signal. */
static int look_around(void)
{
    char directory[64];
    sigset_t blocked;
    for (int fd = STDERR_FILENO + 1; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 10;
    if (!getcwd(directory, sizeof directory) || strcmp(directory, "/") != 0) return 11;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&blocked, SIGTERM) ? 12 : 0;
}

static int be_child(const char *what, const char *more)
{
    if (strcmp(what, "look around") == 0) return look_around();
    if (strcmp(what, "say") == 0) fprintf(stderr, "%s\n", more);
    for (int i = 0; strcmp(what, "say much") == 0 && i < 1000; i++) fprintf(stderr, "line %d\nend\n", i);
    if (strcmp(what, "crash") == 0) raise(SIGKILL);
    while (strcmp(what, "wait") == 0) pause();
    return 3;
}

int main(int argc, char **argv)
{
    if (argc > 1) return be_child(argv[1], argc > 2 ? argv[2] : "");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_code_and_message),
        cmocka_unit_test(test_only_the_end_of_a_long_message_is_kept),
        cmocka_unit_test(test_a_child_that_dies_or_does_not_end),
        cmocka_unit_test(test_nothing_is_inherited),
        cmocka_unit_test(test_cancelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
