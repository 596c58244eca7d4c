#include <string.h>

#include "base/hint.h"
#include "tests/unit/support.h"

static const char *const generate[] = {"length", "n",      "seed",  "prompt", "temperature", "top_k",
                                       "stop",   "stream", "model", "label",  NULL};
static const char *const openai[] = {"max_tokens", "n", "prompt", "logprobs", "stop", NULL};
static const char *const train[] = {"data",   "lr",    "minimum_rate", "hidden", "resume",     "sample_length",
                                    "layers", "batch", "bptt",         "out",    "validation", "validation_data",
                                    NULL};
static const char *const keys[] = {"server.port", "server.listen",  "admin.port",   "auth.admin_tokens",
                                   "log.level",   "engine.threads", "limits.queue", NULL};

static const char *meant(const char *const *names, const char *typed)
{
    struct hint hint;
    hint_begin(&hint, typed);
    for (; *names; names++) hint_try(&hint, *names);
    return hint.found ? hint.found : "";
}

static void test_hint_knows_what_others_say(void **state)
{
    (void)state;
    static const struct {
        const char *const *names;
        const char *typed, *found;
    } cases[] = {
        {generate, "max_tokens", "length"},
        {generate, "max_new_tokens", "length"},
        {generate, "n_predict", "length"},
        {generate, "num_predict", "length"},
        {generate, "text", "prompt"},
        {openai, "length", "max_tokens"},
        {openai, "max_completion_tokens", "max_tokens"},
        {openai, "messages", "prompt"},
        {train, "learning_rate", "lr"},
        {train, "--learning-rate", "lr"},
        {train, "--rnn-size", "hidden"},
        {train, "hidden_size", "hidden"},
        {train, "--seq-length", "bptt"},
        {train, "sequence_length", "bptt"},
        {train, "--val-frac", "validation"},
        {train, "validation_split", "validation"},
        {keys, "server.host", "server.listen"},
        {keys, "host", "server.listen"},
        {keys, "engine.workers", "engine.threads"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(meant(cases[i].names, cases[i].typed), cases[i].found);
}

static void test_hint_ignores_case_and_what_joins_words(void **state)
{
    (void)state;
    assert_string_equal(meant(generate, "PROMPT"), "prompt");
    assert_string_equal(meant(generate, "Top-K"), "top_k");
    assert_string_equal(meant(generate, "topk"), "top_k");
    assert_string_equal(meant(generate, "maxTokens"), "length");
    assert_string_equal(meant(keys, "SERVER_PORT"), "server.port");
    assert_string_equal(meant(keys, "Auth.AdminTokens"), "auth.admin_tokens");
}

static void test_hint_bears_few_wrong_letters(void **state)
{
    (void)state;
    assert_string_equal(meant(generate, "temprature"), "temperature");
    assert_string_equal(meant(generate, "promtp"), "prompt");
    assert_string_equal(meant(generate, "sed"), "seed");
    assert_string_equal(meant(keys, "server.prot"), "server.port");
    assert_string_equal(meant(keys, "levle"), "log.level");
}

static void test_hint_is_silent_where_nothing_is_near(void **state)
{
    (void)state;
    static const char *const far[] = {"foo", "", "-", "x", "temporal", "qqqqqqqqqqqq", "\xFF\xFE"};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) assert_string_equal(meant(generate, far[i]), "");
    assert_string_equal(meant(keys, "auth.bogus"), "");
    assert_string_equal(meant(keys, "server.bogus"), "");
    assert_string_equal(meant(train, "gpu"), "");
    char long_name[1000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_string_equal(meant(train, long_name), "");
}

static void test_hint_says_what_there_is_not(void **state)
{
    (void)state;
    static const char *const names[] = {"gpu", "--gpu", "CUDA", "n_gpu_layers", "device"};
    struct hint hint;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hint_begin(&hint, names[i]);
        assert_non_null(hint.remark);
        assert_non_null(strstr(hint.remark, "GPU"));
    }
    hint_begin(&hint, "prompt");
    assert_null(hint.remark);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hint_knows_what_others_say),
        cmocka_unit_test(test_hint_ignores_case_and_what_joins_words),
        cmocka_unit_test(test_hint_bears_few_wrong_letters),
        cmocka_unit_test(test_hint_is_silent_where_nothing_is_near),
        cmocka_unit_test(test_hint_says_what_there_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
