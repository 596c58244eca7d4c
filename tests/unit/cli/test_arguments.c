#include "cli/arguments.h"

#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "tests/unit/support.h"

struct flags {
    const char *model, *prompt, *config;
    int64_t max_minutes;
    bool json, color;
    struct option_list set;
};

#define FIELD(name) offsetof(struct flags, name)

static const struct option rows[] = {
    {"model", OPTION_TEXT, FIELD(model), NULL, 1, 100, NULL, NULL, "A model."},
    {"prompt", OPTION_TEXT, FIELD(prompt), "", 0, 0, NULL, NULL, "A prompt."},
    {"config", OPTION_TEXT, FIELD(config), NULL, 1, 4095, NULL, NULL, "A file."},
    {"max_minutes", OPTION_INT, FIELD(max_minutes), "10", 0, 100, NULL, "minutes", "A time."},
    {"json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, NULL, "JSON."},
    {"color", OPTION_BOOL, FIELD(color), "true", 0, 0, NULL, NULL, "Color."},
    {"set", OPTION_LIST, FIELD(set), NULL, 0, 0, NULL, NULL, "Settings."},
};

static const char *const operands[] = {"model", "prompt", NULL};
static const char *const required[] = {"model", NULL};

static const struct command_line line = {
    .usage = "lstmd try MODEL [PROMPT]",
    .description = "Tries.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .operands = operands,
    .required = required,
    .file_key = "config",
};

struct fixture {
    struct flags flags;
    struct arena arena;
    struct error err;
    bool help;
};

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(&f->arena);
    free(f);
    return 0;
}

static bool read_array(struct fixture *f, const char *const *arguments)
{
    char *argv[16] = {"try"};
    int argc = 1;
    for (; arguments[argc - 1]; argc++) argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    arena_free(&f->arena);
    error_clear(&f->err);
    return arguments_read(&(struct arguments){&line, argc, argv}, &f->flags, &f->arena, &f->help, &f->err);
}

#define READ(f, ...) read_array(f, (const char *const[]){__VA_ARGS__, NULL})

static void test_arguments_take_values_in_both_forms(void **state)
{
    struct fixture *f = *state;
    assert_true(READ(f, "--model", "m", "--max-minutes=3", "--prompt", "-x"));
    assert_string_equal(f->flags.model, "m");
    assert_string_equal(f->flags.prompt, "-x");
    assert_int_equal(f->flags.max_minutes, 3);
    assert_false(f->flags.json);
    assert_true(f->flags.color);
    assert_true(READ(f, "--model=a=b", "--prompt=", "--max-minutes", "2"));
    assert_string_equal(f->flags.model, "a=b");
    assert_string_equal(f->flags.prompt, "");
    assert_int_equal(f->flags.max_minutes, 2);
}

static void test_arguments_bools_take_no_value(void **state)
{
    struct fixture *f = *state;
    assert_true(READ(f, "--json", "m", "--no-color"));
    assert_true(f->flags.json);
    assert_false(f->flags.color);
    assert_string_equal(f->flags.model, "m");
    assert_true(READ(f, "m", "--no-json", "--color=off"));
    assert_false(f->flags.json);
    assert_false(f->flags.color);
}

static void test_arguments_lists_gather(void **state)
{
    struct fixture *f = *state;
    assert_true(READ(f, "m", "--set", "a=1", "--set=b=2"));
    assert_int_equal(f->flags.set.count, 2);
    assert_string_equal(f->flags.set.items[0], "a=1");
    assert_string_equal(f->flags.set.items[1], "b=2");
}

static void test_arguments_operands_fill_their_keys(void **state)
{
    struct fixture *f = *state;
    assert_true(READ(f, "m", "--json", "p"));
    assert_string_equal(f->flags.model, "m");
    assert_string_equal(f->flags.prompt, "p");
    assert_true(READ(f, "--", "-m", "--json"));
    assert_string_equal(f->flags.model, "-m");
    assert_string_equal(f->flags.prompt, "--json");
    assert_false(f->flags.json);
    assert_true(READ(f, "-"));
    assert_string_equal(f->flags.model, "-");
}

static void test_arguments_wrong_usage_is_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *arguments[4], *message;
    } cases[] = {
        {{"m", "--jsno"}, "unknown flag \"--jsno\", did you mean --json?"},
        {{"m", "--max-minuts=5"}, "unknown flag \"--max-minuts\", did you mean --max-minutes?"},
        {{"m", "--max_minutes=5"}, "unknown flag \"--max_minutes\", did you mean --max-minutes?"},
        {{"m", "-j"}, "unknown flag \"-j\"; --help lists all"},
        {{"m", "--no-model"}, "unknown flag \"--no-model\", did you mean --model?"},
        {{"m", "--max-minutes"}, "--max-minutes: has no value, expected an integer from 0 to 100 minutes"},
        {{"m", "--max-minutes", "101"},
         "--max-minutes: \"101\" is not allowed, expected an integer from 0 to 100 minutes"},
        {{"m", "--max-minutes=5", "--max-minutes=5"}, "--max-minutes: given twice, and takes one value"},
        {{"m", "--json", "--no-json"}, "--json: given twice, and takes one value"},
        {{"m", "--model", "m"}, "--model: given twice, and takes one value"},
        {{"m", "--json=perhaps"}, "--json: \"perhaps\" is not allowed, expected true or false"},
        {{"m", "--no-json=true"}, "--no-json: takes no value"},
        {{"m", "p", "q"}, "unexpected argument \"q\"; usage: lstmd try MODEL [PROMPT]"},
        {{"--json"}, "--model is missing; usage: lstmd try MODEL [PROMPT]"},
        {{NULL}, "--model is missing; usage: lstmd try MODEL [PROMPT]"},
        {{""}, "model: \"\" is not allowed, expected a text of 1 to 100 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_false(read_array(f, cases[i].arguments));
        assert_int_equal(f->err.code, ERROR_USAGE);
        assert_string_equal(f->err.message, cases[i].message);
    }
}

static void test_arguments_flags_win_over_the_file(void **state)
{
    struct fixture *f = *state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.yaml");
    write_text(path, "max_minutes: 7\njson: true\nprompt: filed\nset: x=1\n");
    assert_true(READ(f, "m", "--max-minutes", "8", "--config", path, "--set", "y=2"));
    assert_string_equal(f->flags.model, "m");
    assert_int_equal(f->flags.max_minutes, 8);
    assert_true(f->flags.json);
    assert_string_equal(f->flags.prompt, "filed");
    assert_int_equal(f->flags.set.count, 2);
    assert_true(READ(f, "m", "--no-json", "--config", path));
    assert_false(f->flags.json);
    write_text(path, "model: m\nmax_minutes: many\n");
    assert_false(READ(f, "--config", path));
    assert_int_equal(f->err.code, ERROR_INVALID);
    assert_non_null(strstr(f->err.message, "a.yaml:2:14: max_minutes: \"many\" is not allowed"));
    write_text(path, "model: m\n");
    assert_true(READ(f, "--config", path));
    assert_string_equal(f->flags.model, "m");
    temp_dir_remove(directory);
}

static void read_help(void *context)
{
    struct fixture *f = context;
    assert_true(READ(f, "--unknown", "--help"));
}

static void test_arguments_help_lists_every_flag(void **state)
{
    struct fixture *f = *state;
    char *text = capture_output(1, read_help, f);
    assert_true(f->help);
    assert_ptr_equal(strstr(text, "Usage: lstmd try MODEL [PROMPT]\n\nTries.\n"), text);
    for (size_t i = 0; i < line.table.count; i++) assert_non_null(strstr(text, rows[i].help));
    assert_non_null(strstr(text, "  --max-minutes "));
    assert_non_null(strstr(text, "(an integer from 0 to 100 minutes; default 10)"));
    free(text);
    assert_true(READ(f, "--", "--help"));
    assert_false(f->help);
}

struct run {
    const char *arguments[4];
    int exit_code;
};

static void run_config(void *context)
{
    struct run *run = context;
    char *argv[5] = {"config"};
    int argc = 1;
    for (; argc < 5 && run->arguments[argc - 1]; argc++) argv[argc] = (char *)(uintptr_t)run->arguments[argc - 1];
    run->exit_code = cmd_config(argc, argv);
}

static void test_command_config_prints_what_is_in_effect(void **state)
{
    (void)state;
    struct run run = {{"--set", "server.port=9"}, -1};
    char *text = capture_output(1, run_config, &run);
    assert_int_equal(run.exit_code, 0);
    assert_ptr_equal(strstr(text, "server:\n  listen: \"127.0.0.1\"  # default\n  port: 9  # --set\n"), text);
    free(text);
}

static void test_command_config_exit_codes(void **state)
{
    (void)state;
    struct run wrong = {{"--set", "server.port=x"}, -1}, usage = {{"--sett", "x"}, -1};
    char *text = capture_output(2, run_config, &wrong);
    assert_int_equal(wrong.exit_code, 1);
    assert_string_equal(text, "lstmd: --set: server.port: \"x\" is not allowed, expected an integer from 0 to 65535\n");
    free(text);
    text = capture_output(2, run_config, &usage);
    assert_int_equal(usage.exit_code, 2);
    assert_string_equal(text, "lstmd: unknown flag \"--sett\", did you mean --set?\n");
    free(text);
}

static bool read_some(void *context, struct error *err)
{
    static char *argv[] = {"try", "m", "--set", "a", "--set=b", "--config", NULL, NULL};
    struct flags flags;
    struct arena arena = {0};
    bool help;
    argv[6] = context;
    bool done = arguments_read(&(struct arguments){&line, 7, argv}, &flags, &arena, &help, err);
    arena_free(&arena);
    return done;
}

static void test_arguments_survive_failing_allocations(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.yaml");
    write_text(path, "prompt: p\n");
    assert_survives_failing_allocations(read_some, (void *)(uintptr_t)path);
    temp_dir_remove(directory);
}

#define ARGUMENTS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ARGUMENTS_TEST(test_arguments_take_values_in_both_forms),
        ARGUMENTS_TEST(test_arguments_bools_take_no_value),
        ARGUMENTS_TEST(test_arguments_lists_gather),
        ARGUMENTS_TEST(test_arguments_operands_fill_their_keys),
        ARGUMENTS_TEST(test_arguments_wrong_usage_is_named),
        ARGUMENTS_TEST(test_arguments_flags_win_over_the_file),
        ARGUMENTS_TEST(test_arguments_help_lists_every_flag),
        ARGUMENTS_TEST(test_command_config_prints_what_is_in_effect),
        ARGUMENTS_TEST(test_command_config_exit_codes),
        ARGUMENTS_TEST(test_arguments_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
