#include "server/api/auth.h"

#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "tests/unit/support.h"

#define GENERATE "generate-token-0001"
#define ADMIN    "admin+token/0002=="
#define NOW      UINT64_C(1000000000)

struct fixture {
    char *directory;
    struct config config;
    struct auth *auth;
    struct error err;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.directory = temp_dir_new()};
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    auth_free(f->auth);
    config_close(&f->config);
    temp_dir_remove(f->directory);
    return 0;
}

/* --set values, ended by NULL. */
static bool configure(struct fixture *f, const char *const *assignments)
{
    size_t count = 0;
    while (assignments[count]) count++;
    config_close(&f->config);
    f->err = (struct error){0};
    return config_load(&f->config, NULL, NULL, assignments, count, &f->err);
}

#define OPEN(f, ...) open_auth((f), (const char *const[]){__VA_ARGS__, NULL})

static bool open_auth(struct fixture *f, const char *const *assignments)
{
    assert_true(configure(f, assignments));
    auth_free(f->auth);
    f->auth = auth_new(&f->config, &f->err);
    return f->auth != NULL;
}

static enum auth_verdict check(struct fixture *f, enum http_scope scope, const char *header)
{
    unsigned seconds;
    return auth_check(f->auth, scope, header, "192.0.2.1", NOW, &seconds);
}

static void test_auth_is_open_to_generate_and_closed_to_admin_without_tokens(void **state)
{
    struct fixture *f = *state;
    assert_true(OPEN(f, NULL));
    assert_int_equal(check(f, HTTP_PUBLIC, NULL), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, NULL), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " GENERATE), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, NULL), AUTH_CLOSED);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_CLOSED);
}

static void test_auth_generate_token_does_not_administer(void **state)
{
    struct fixture *f = *state;
    assert_true(OPEN(f, "auth.generate_tokens=" GENERATE, "auth.admin_tokens=" ADMIN));
    assert_int_equal(check(f, HTTP_PUBLIC, NULL), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, NULL), AUTH_MISSING);
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " GENERATE), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " ADMIN), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, NULL), AUTH_MISSING);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " GENERATE), AUTH_SCOPE);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " GENERATE "x"), AUTH_UNKNOWN);
}

static void test_auth_admin_token_alone_leaves_generation_open(void **state)
{
    struct fixture *f = *state;
    assert_true(OPEN(f, "auth.admin_tokens=" ADMIN));
    assert_int_equal(check(f, HTTP_GENERATE, NULL), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, NULL), AUTH_MISSING);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
}

static void test_auth_header_has_the_form_of_rfc_6750(void **state)
{
    struct fixture *f = *state;
    static const char *const good[] = {"Bearer " ADMIN, "bearer " ADMIN, "BEARER   " ADMIN, "Bearer " ADMIN " \t"};
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "Bearer" ADMIN,
                                      "Basic " ADMIN,
                                      ADMIN,
                                      "Bearer \t" ADMIN,
                                      "Bearer " ADMIN " x",
                                      "Bearer " ADMIN ", x",
                                      "Bearer =="};
    assert_true(OPEN(f, "auth.admin_tokens=" ADMIN));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(check(f, HTTP_ADMIN, good[i]), AUTH_GRANTED);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(check(f, HTTP_ADMIN, bad[i]), AUTH_MISSING);
}

static void test_auth_tokens_may_be_given_as_digests(void **state)
{
    struct fixture *f = *state;
    char text[SHA256_TEXT_SIZE], setting[128];
    sha256_text(ADMIN, strlen(ADMIN), text);
    snprintf(setting, sizeof setting, "auth.admin_tokens=sha256:%s", text);
    assert_true(OPEN(f, setting));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
    for (char *at = strchr(setting, ':'); *at; at++) /* upper-case digits are the same */
        if (*at >= 'a' && *at <= 'f') *at = (char)(*at - 'a' + 'A');
    assert_true(OPEN(f, setting));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
    snprintf(setting, sizeof setting, "Bearer sha256:%s", text); /* the digest itself opens nothing */
    assert_int_not_equal(check(f, HTTP_ADMIN, setting), AUTH_GRANTED);
    snprintf(setting, sizeof setting, "Bearer %s", text);
    assert_int_equal(check(f, HTTP_ADMIN, setting), AUTH_UNKNOWN);
}

static void test_auth_a_value_may_hold_several_tokens(void **state)
{
    struct fixture *f = *state;
    assert_true(OPEN(f, "auth.admin_tokens=" ADMIN ", " GENERATE, "auth.admin_tokens=another-admin-token"));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " GENERATE), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer another-admin-token"), AUTH_GRANTED);
}

static void test_auth_files_have_a_token_per_line_and_comments(void **state)
{
    struct fixture *f = *state;
    const char *path = in_dir(f->directory, "tokens");
    char setting[4096];
    write_text(path, "# ours\n\n  first-admin-token  \r\n\t# theirs\n" ADMIN);
    snprintf(setting, sizeof setting, "auth.admin_token_file=%s", path);
    assert_true(OPEN(f, setting));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer first-admin-token"), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer #ours"), AUTH_MISSING);
    assert_int_equal(check(f, HTTP_GENERATE, NULL), AUTH_GRANTED);
    snprintf(setting, sizeof setting, "auth.generate_token_file=%s", path);
    assert_true(OPEN(f, setting));
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " ADMIN), AUTH_GRANTED);
    assert_int_equal(check(f, HTTP_GENERATE, NULL), AUTH_MISSING);
    write_text(path, "\xEF\xBB\xBF" ADMIN "\r\n"); /* as an editor of Windows saves it */
    assert_true(OPEN(f, setting));
    assert_int_equal(check(f, HTTP_GENERATE, "Bearer " ADMIN), AUTH_GRANTED);
}

static void test_auth_refuses_what_is_no_token_and_does_not_show_it(void **state)
{
    struct fixture *f = *state;
    static const char *const values[] = {"short-secret-15",
                                         "secret with-a-short-part",
                                         "secret-with-quote\"",
                                         "secret=in=the=middle",
                                         "sha256:secret",
                                         "sha256:",
                                         "(set)"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char setting[128];
        snprintf(setting, sizeof setting, "auth.generate_tokens=%s", values[i]);
        if (OPEN(f, setting)) fail_msg("accepted: %s", values[i]);
        assert_int_equal(f->err.code, ERROR_INVALID);
        assert_non_null(strstr(f->err.message, "auth.generate_tokens: "));
        assert_null(strstr(f->err.message, "secret"));
    }
    char longest[600] = "auth.admin_tokens=";
    const size_t key = strlen(longest);
    memset(longest + key, 'a', 512);
    assert_true(OPEN(f, longest));
    longest[key + 512] = 'a';
    assert_false(OPEN(f, longest));
    assert_true(OPEN(f, "auth.admin_tokens=sixteen-letters-"));
}

static void test_auth_refuses_files_without_tokens(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *message; /* after the file's name */
    } cases[] = {{"", ": has no token"},
                 {"# nothing\n\n", ": has no token"},
                 {"# x\nsecret\n", ":2: a token has 16 to 512"},
                 {"this-is-long-enough but not alone\n", ":1: a token has"}};
    const char *path = in_dir(f->directory, "tokens");
    char setting[4096], message[4096];
    snprintf(setting, sizeof setting, "auth.generate_token_file=%s", path);
    assert_false(OPEN(f, setting));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(path, cases[i].text);
        assert_false(OPEN(f, setting));
        assert_int_equal(f->err.code, ERROR_INVALID);
        snprintf(message, sizeof message, "auth.generate_token_file: %s%s", path, cases[i].message);
        assert_memory_equal(f->err.message, message, strlen(message));
    }
    write_file(path, GENERATE "\n\0\n", sizeof GENERATE "\n\0");
    assert_false(OPEN(f, setting));
    assert_non_null(strstr(f->err.message, "NUL"));
}

static void test_auth_reload_replaces_all_tokens_or_none(void **state)
{
    struct fixture *f = *state;
    assert_true(OPEN(f, "auth.admin_tokens=" ADMIN));
    assert_true(configure(f, (const char *const[]){"auth.admin_tokens=the-new-admin-token", NULL}));
    assert_true(auth_reload(f->auth, &f->config, &f->err));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_UNKNOWN);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer the-new-admin-token"), AUTH_GRANTED);
    assert_true(configure(f, (const char *const[]){"auth.admin_tokens=" ADMIN, "auth.admin_tokens=x", NULL}));
    assert_false(auth_reload(f->auth, &f->config, &f->err));
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer " ADMIN), AUTH_UNKNOWN);
    assert_int_equal(check(f, HTTP_ADMIN, "Bearer the-new-admin-token"), AUTH_GRANTED);
}

static void test_auth_does_not_listen_to_an_address_that_guesses(void **state)
{
    struct fixture *f = *state;
    unsigned seconds = 0;
    assert_true(OPEN(f, "auth.admin_tokens=" ADMIN));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(check(f, HTTP_ADMIN, NULL), AUTH_MISSING); /* is no guess */
        assert_int_equal(check(f, HTTP_ADMIN, "Bearer wrong"), AUTH_UNKNOWN);
    }
    const char *right = "Bearer " ADMIN;
    assert_int_equal(auth_check(f->auth, HTTP_ADMIN, right, "192.0.2.1", NOW, &seconds), AUTH_SLOWED);
    assert_int_equal(seconds, 1);
    assert_int_equal(auth_check(f->auth, HTTP_ADMIN, right, "192.0.2.2", NOW, &seconds), AUTH_GRANTED);
    assert_int_equal(auth_check(f->auth, HTTP_GENERATE, right, "192.0.2.1", NOW, &seconds), AUTH_GRANTED);
    assert_int_equal(auth_check(f->auth, HTTP_ADMIN, right, "192.0.2.1", 2 * NOW, &seconds), AUTH_GRANTED);
}

static bool make(void *context, struct error *err)
{
    struct auth *auth = auth_new(context, err);
    auth_free(auth);
    return auth != NULL;
}

static void test_auth_survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    const char *path = in_dir(f->directory, "tokens");
    char setting[4096];
    write_text(path, "first-admin-token\nsecond-admin-token\n");
    snprintf(setting, sizeof setting, "auth.admin_token_file=%s", path);
    assert_true(configure(f, (const char *const[]){setting, "auth.generate_tokens=" GENERATE "," ADMIN, NULL}));
    assert_survives_failing_allocations(make, &f->config);
}

#define AUTH_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AUTH_TEST(test_auth_is_open_to_generate_and_closed_to_admin_without_tokens),
        AUTH_TEST(test_auth_generate_token_does_not_administer),
        AUTH_TEST(test_auth_admin_token_alone_leaves_generation_open),
        AUTH_TEST(test_auth_header_has_the_form_of_rfc_6750),
        AUTH_TEST(test_auth_tokens_may_be_given_as_digests),
        AUTH_TEST(test_auth_a_value_may_hold_several_tokens),
        AUTH_TEST(test_auth_files_have_a_token_per_line_and_comments),
        AUTH_TEST(test_auth_refuses_what_is_no_token_and_does_not_show_it),
        AUTH_TEST(test_auth_refuses_files_without_tokens),
        AUTH_TEST(test_auth_reload_replaces_all_tokens_or_none),
        AUTH_TEST(test_auth_does_not_listen_to_an_address_that_guesses),
        AUTH_TEST(test_auth_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
