#include "config/option.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

struct settings {
    bool flag;
    int64_t count;
    uint64_t size;
    double rate;
    const char *name, *path, *mode;
    int color;
    struct option_list items, keys;
};

static const char *const colors[] = {"red", "green", NULL};
static const char *const modes[] = {"fast", "exact", NULL};

#define FIELD(name) offsetof(struct settings, name)

static const struct option rows[] = {
    {"flag", OPTION_BOOL, FIELD(flag), "true", 0, 0, NULL, NULL, "A flag."},
    {"box.count", OPTION_INT, FIELD(count), "5", -10, 100, NULL, "boxes", "A count."},
    {"box.size", OPTION_SIZE, FIELD(size), "4KiB", 0, 1 << 30, NULL, "bytes", "A size."},
    {"box.rate", OPTION_REAL, FIELD(rate), "0.5", 0, 2, NULL, "1/s", "A rate."},
    {"box.name", OPTION_TEXT, FIELD(name), "n", 1, 8, NULL, NULL, "A name."},
    {"path", OPTION_TEXT, FIELD(path), NULL, 0, 0, NULL, NULL, "A path or nothing."},
    {"mode", OPTION_TEXT, FIELD(mode), "fast", 0, 0, modes, NULL, "A mode."},
    {"color", OPTION_CHOICE, FIELD(color), "green", 0, 0, colors, NULL, "A color."},
    {"items", OPTION_LIST, FIELD(items), NULL, 0, 0, NULL, NULL, "Items."},
    {"keys", OPTION_SECRETS, FIELD(keys), NULL, 0, 0, NULL, NULL, "Keys."},
};

static const struct option_table table = {rows, sizeof rows / sizeof rows[0], "TEST", NULL};

struct fixture {
    struct settings settings;
    struct arena arena;
    struct error err;
    char *directory;
    const char *yaml;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->directory = temp_dir_new();
    f->yaml = in_dir(f->directory, "a.yaml");
    assert_true(options_set_defaults(&table, &f->settings, &f->arena, &f->err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(&f->arena);
    temp_dir_remove(f->directory);
    free(f);
    return 0;
}

static bool set(struct fixture *f, const char *key, const char *value)
{
    error_clear(&f->err);
    return options_set(&table, &f->settings, &(struct option_assignment){key, value, "here"}, &f->arena, &f->err);
}

static void assert_message(const struct fixture *f, const char *message)
{
    assert_int_equal(f->err.code, ERROR_INVALID);
    assert_string_equal(f->err.message, message);
}

static void test_option_defaults_are_set(void **state)
{
    struct fixture *f = *state;
    assert_true(f->settings.flag);
    assert_int_equal(f->settings.count, 5);
    assert_int_equal(f->settings.size, 4096);
    assert_true(f->settings.rate > 0.4999 && f->settings.rate < 0.5001);
    assert_string_equal(f->settings.name, "n");
    assert_null(f->settings.path);
    assert_string_equal(f->settings.mode, "fast");
    assert_int_equal(f->settings.color, 1);
    assert_int_equal(f->settings.items.count, 0);
}

static void test_option_accepts_each_type(void **state)
{
    struct fixture *f = *state;
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "False", "TRUE"};
    for (size_t i = 0; i < 8; i++) {
        assert_true(set(f, "flag", words[i]));
        assert_int_equal(f->settings.flag, i % 2);
    }
    assert_true(set(f, "box.count", "-10"));
    assert_int_equal(f->settings.count, -10);
    assert_true(set(f, "box.count", "+100"));
    assert_int_equal(f->settings.count, 100);
    assert_true(set(f, "box.rate", "1e-3"));
    assert_true(f->settings.rate > 0.00099 && f->settings.rate < 0.00101);
    assert_true(set(f, "box.rate", ".5"));
    assert_true(set(f, "box.name", "12345678"));
    assert_string_equal(f->settings.name, "12345678");
    assert_true(set(f, "path", ""));
    assert_string_equal(f->settings.path, "");
    assert_true(set(f, "path", NULL));
    assert_null(f->settings.path);
    assert_true(set(f, "mode", "exact"));
    assert_true(set(f, "color", "red"));
    assert_int_equal(f->settings.color, 0);
    assert_true(set(f, "items", "a") && set(f, "items", "b"));
    assert_int_equal(f->settings.items.count, 2);
    assert_string_equal(f->settings.items.items[0], "a");
    assert_string_equal(f->settings.items.items[1], "b");
}

static void test_option_size_has_units(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"0", 0},          {"512", 512},     {"512B", 512},      {"2k", 2000},        {"2kB", 2000},
                 {"3M", 3000000},   {"3MB", 3000000}, {"1G", 1000000000}, {"1GB", 1000000000}, {"64KiB", 65536},
                 {"1MiB", 1048576}, {"1GiB", 1 << 30}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(set(f, "box.size", cases[i].text));
        assert_int_equal(f->settings.size, cases[i].bytes);
    }
}

static void test_option_refuses_wrong_values_and_keeps_the_old(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][2] = {{"flag", "maybe"},
                                           {"flag", ""},
                                           {"flag", "1"},
                                           {"box.count", "five"},
                                           {"box.count", ""},
                                           {"box.count", "5.0"},
                                           {"box.count", "5 "},
                                           {"box.count", " 5"},
                                           {"box.count", "0x10"},
                                           {"box.count", "101"},
                                           {"box.count", "-11"},
                                           {"box.count", "99999999999999999999"},
                                           {"box.size", "-1"},
                                           {"box.size", "+1"},
                                           {"box.size", "1.5MiB"},
                                           {"box.size", "4kib"},
                                           {"box.size", "2GiB"},
                                           {"box.size", "18446744073709551616"},
                                           {"box.size", "18446744073709551615GiB"},
                                           {"box.rate", "nan"},
                                           {"box.rate", "inf"},
                                           {"box.rate", "1e999"},
                                           {"box.rate", "2.0001"},
                                           {"box.rate", "-0.1"},
                                           {"box.rate", "0.5x"},
                                           {"box.rate", ""},
                                           {"box.name", ""},
                                           {"box.name", "123456789"},
                                           {"mode", "slow"},
                                           {"color", "blue"},
                                           {"color", "RED"},
                                           {"box.name", NULL},
                                           {"flag", NULL},
                                           {"box.count", NULL}};
    struct settings before = f->settings;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (set(f, cases[i][0], cases[i][1])) fail_msg("%s: %s was accepted", cases[i][0], cases[i][1]);
        assert_int_equal(f->err.code, ERROR_INVALID);
        assert_memory_equal(f->err.message, "here: ", 6);
        assert_non_null(strstr(f->err.message, cases[i][0]));
    }
    assert_memory_equal(&f->settings, &before, sizeof before);
}

static void test_option_errors_say_what_is_allowed(void **state)
{
    struct fixture *f = *state;
    set(f, "box.count", "101");
    assert_message(f, "here: box.count: \"101\" is not allowed, expected an integer from -10 to 100 boxes");
    set(f, "box.size", "2GiB");
    assert_message(f,
                   "here: box.size: \"2GiB\" is not allowed, expected a size (as 65536, 64KiB or 1MiB) from 0 to 1GiB");
    set(f, "box.rate", "x");
    assert_message(f, "here: box.rate: \"x\" is not allowed, expected a number from 0 to 2 1/s");
    set(f, "box.name", "");
    assert_message(f, "here: box.name: \"\" is not allowed, expected a text of 1 to 8 bytes");
    set(f, "color", "blue");
    assert_message(f, "here: color: \"blue\" is not allowed, expected one of red, green");
    set(f, "mode", "slow");
    assert_message(f, "here: mode: \"slow\" is not allowed, expected one of fast, exact");
    set(f, "flag", NULL);
    assert_message(f, "here: flag: has no value, expected true or false");
    set(f, "box.cuont", "1");
    assert_message(f, "here: unknown key \"box.cuont\", did you mean \"box.count\"?");
    set(f, "cuont", "1");
    assert_message(f, "here: unknown key \"cuont\", did you mean \"box.count\"?");
}

static void test_option_assignment_is_key_and_value(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"", "box.count", "=5", "box.count:5", "box.count =5"};
    assert_true(options_set_assignment(&table, &f->settings, "path=a=b", "--set", &f->arena, &f->err));
    assert_string_equal(f->settings.path, "a=b");
    assert_true(options_set_assignment(&table, &f->settings, "path=", "--set", &f->arena, &f->err));
    assert_string_equal(f->settings.path, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error_clear(&f->err);
        assert_false(options_set_assignment(&table, &f->settings, bad[i], "--set", &f->arena, &f->err));
        assert_memory_equal(f->err.message, "--set: ", 7);
    }
    char key[1000];
    memset(key, 'k', sizeof key - 1);
    memcpy(key + 900, "=1", 3);
    error_clear(&f->err);
    assert_false(options_set_assignment(&table, &f->settings, key, "--set", &f->arena, &f->err));
}

static bool read_environment(struct fixture *f, const char *variable)
{
    char *const environment[] = {"PATH=/bin", "TESTING=1", (char *)(uintptr_t)variable, NULL};
    error_clear(&f->err);
    return options_read_environment(&table, &f->settings, environment, &f->arena, &f->err);
}

static void test_option_environment_sets_and_refuses(void **state)
{
    struct fixture *f = *state;
    assert_true(read_environment(f, "TEST_BOX_COUNT=7"));
    assert_int_equal(f->settings.count, 7);
    assert_false(read_environment(f, "TEST_BOX_COUNT=700"));
    assert_message(f, "TEST_BOX_COUNT: \"700\" is not allowed, expected an integer from -10 to 100 boxes");
    assert_false(read_environment(f, "TEST_BOX_CUONT=7"));
    assert_message(f, "environment: unknown variable TEST_BOX_CUONT, did you mean TEST_BOX_COUNT?");
    assert_false(read_environment(f, "TEST_=7"));
    assert_true(options_read_environment(&table, &f->settings, NULL, &f->arena, &f->err));
}

static void test_option_environment_of_containers_is_not_ours(void **state)
{
    struct fixture *f = *state;
    static const char *const links[] = {"TEST_CONFIG=/etc/a.yaml",     "TEST_SERVICE_HOST=10.0.0.1",
                                        "TEST_SERVICE_PORT=80",        "TEST_SERVICE_PORT_HTTP=80",
                                        "TEST_PORT=tcp://10.0.0.1:80", "TEST_PORT_80_TCP=tcp://10.0.0.1:80",
                                        "TEST_PORT_80_TCP_PROTO=tcp",  "TEST_WEB_PORT_80_TCP_PORT=80"};
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) assert_true(read_environment(f, links[i]));
    assert_false(read_environment(f, "TEST_PORT=80"));
}

/* ---- YAML -------------------------------------------------------------------------------------------------------- */

static bool read_yaml(struct fixture *f, const char *text)
{
    error_clear(&f->err);
    write_text(f->yaml, text);
    return options_read_yaml(&table, &f->settings, f->yaml, &f->arena, &f->err);
}

static void test_option_yaml_sets_keys(void **state)
{
    struct fixture *f = *state;
    assert_true(read_yaml(f, "# comment\nflag: no\nbox:\n  count: 9\n  size: 1MiB\n  name: 'it''s'\npath: \"a\\tb\"\n"
                             "color: red\n"));
    assert_false(f->settings.flag);
    assert_int_equal(f->settings.count, 9);
    assert_int_equal(f->settings.size, 1 << 20);
    assert_string_equal(f->settings.name, "it's");
    assert_string_equal(f->settings.path, "a\tb");
    assert_int_equal(f->settings.color, 0);
    assert_true(read_yaml(f, "{box: {count: 3}, path: null}"));
    assert_int_equal(f->settings.count, 3);
    assert_null(f->settings.path);
    assert_true(read_yaml(f, "\xEF\xBB\xBF"
                             "box.count: 6\n")); /* as an editor of Windows saves it */
    assert_int_equal(f->settings.count, 6);
    assert_true(read_yaml(f, "box.count: 4\npath: '8080'\n"));
    assert_int_equal(f->settings.count, 4);
    assert_string_equal(f->settings.path, "8080");
}

static void test_option_yaml_may_be_empty(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"",       "\n",   "# nothing\n",          "---\n",       "---\n...\n",
                                        "null\n", "{}\n", "box:\n  # count: 3\n", "\xEF\xBB\xBF"};
    struct settings before = f->settings;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!read_yaml(f, texts[i])) fail_msg("%s: %s", texts[i], f->err.message);
    assert_memory_equal(&f->settings, &before, sizeof before);
}

static void test_option_yaml_errors_have_file_line_and_column(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml, *message; /* the message after the file's name */
    } cases[] = {
        {"flag: yes\nbox:\n  cuont: 5\n", ":3:3: unknown key \"box.cuont\", did you mean \"box.count\"?"},
        {"box:\n  count: many\n",
         ":2:10: box.count: \"many\" is not allowed, expected an integer from -10 to 100 boxes"},
        {"box:\n  count:\n", ":2:9: box.count: has no value, expected an integer from -10 to 100 boxes"},
        {"boxx:\n  count: 1\n", ":1:1: unknown section \"boxx\", did you mean \"box\"?"},
        {"flag: yes\ncolor: red\nflag: no\n", ":3:1: flag: given twice, first in line 1"},
        {"box: {count: 1}\nbox.count: 2\n", ":2:1: box.count: given twice, first in line 1"},
        {"box: {count: 1}\nbox: {rate: 1}\n", ":2:1: the section \"box\" stands here twice"},
        {"box: 5\n", ":1:6: box: is a section, expected keys such as box.count"},
        {"path: {a: 1}\n", ":1:1: path: is a mapping, expected a text"},
        {"path:\n  - a\n", ":2:3: path: is a sequence, expected a single value"},
        {"items: [a, {b: c}]\n", ":1:12: items: an item must be a text"},
        {"items: [[a]]\n", ":1:9: items: an item must be a text"},
        {"items: [a, null]\n", ":1:12: items: an item must be a text"},
        {"items: [\"a\\0b\"]\n", ":1:9: items: the value holds a NUL character"},
        {"items: &a [b]\n", ":1:8: \"a\": anchors and aliases are not supported"},
        {"items: [a]\nitems: [b]\n", ":2:1: items: given twice, first in line 1"},
        {"item: [a]\n", ":1:1: unknown key \"item\", did you mean \"items\"?"},
        {"items: {a: b}\n", ":1:1: items: is a mapping, expected a text, or several"},
        {"- a\n", ":1:1: expected keys with values, such as \"flag\""},
        {"word\n", ":1:1: expected keys with values, such as \"flag\""},
        {"? [a]\n: 1\n", ":1:3: a key must be a plain name"},
        {"path: &a x\n", ":1:7: \"a\": anchors and aliases are not supported"},
        {"path: *a\n", ":1:7: \"a\": anchors and aliases are not supported"},
        {"box: &a {count: 1}\n", ":1:6: \"a\": anchors and aliases are not supported"},
        {"path: !!str x\n", ":1:7: the tag \"tag:yaml.org,2002:str\": tags are not supported"},
        {"flag: yes\n---\nflag: no\n", ":2:1: a second document; only one is read"},
        {"path: \"a\\0b\"\n", ":1:7: path: the value holds a NUL character"},
        {"\"fl\\0ag\": yes\n", ":1:1: a key holds a NUL character"},
        {"<<: {flag: yes}\n", ":1:1: unknown section \"<<\"; --help lists all"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (read_yaml(f, cases[i].yaml)) fail_msg("accepted: %s", cases[i].yaml);
        assert_int_equal(f->err.code, ERROR_INVALID);
        assert_memory_equal(f->err.message, f->yaml, strlen(f->yaml));
        assert_string_equal(f->err.message + strlen(f->yaml), cases[i].message);
    }
}

static void test_option_yaml_syntax_errors_have_a_place(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml, *place;
    } cases[] = {{"{flag: yes\n", ":2:1: "},       {"flag: yes\n\tpath: x\n", ":2:1: "},
                 {"path: \"open\n", ":2:1: "},     {"path: 'a' b\n", ":1:11: "},
                 {"path: a\xFFz\n", ": byte 7: "}, {"%YAML 9.9\n---\nflag: yes\n", ":1:1: "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (read_yaml(f, cases[i].yaml)) fail_msg("accepted: %s", cases[i].yaml);
        assert_int_equal(f->err.code, ERROR_INVALID);
        assert_memory_equal(f->err.message, f->yaml, strlen(f->yaml));
        if (strncmp(f->err.message + strlen(f->yaml), cases[i].place, strlen(cases[i].place)) != 0)
            fail_msg("%s: %s", cases[i].yaml, f->err.message);
    }
}

/* "{a: {a: {a: ..." and "[[[[...": refused by the reader, before libyaml's own limits or the stack. */
static void test_option_yaml_deep_or_huge_files_are_refused(void **state)
{
    struct fixture *f = *state;
    static char text[11000000];
    memset(text, '[', 500000);
    assert_false(read_yaml(f, text));
    assert_int_equal(f->err.code, ERROR_INVALID);
    memset(text, '#', sizeof text - 1);
    assert_false(read_yaml(f, text));
    assert_int_equal(f->err.code, ERROR_TOO_LARGE);
    memset(text, 0, sizeof text);
    for (size_t i = 0; i < 100000; i++) memcpy(text + 5 * i, "{box:", 5);
    assert_false(read_yaml(f, text));
    assert_int_equal(f->err.code, ERROR_INVALID);
    memset(text, 0, sizeof text);
    memset(text, 'k', 1000);
    memcpy(text + 1000, ": 1\n", 5);
    assert_false(read_yaml(f, text));
    assert_non_null(strstr(f->err.message, ":1:1: "));
    error_clear(&f->err);
    assert_false(options_read_yaml(&table, &f->settings, in_dir(f->directory, "none"), &f->arena, &f->err));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
}

static bool read_all(void *context, struct error *err)
{
    static char *const environment[] = {"TEST_BOX_COUNT=8", NULL};
    struct settings settings;
    struct arena arena = {0};
    bool done = options_set_defaults(&table, &settings, &arena, err) &&
                options_read_yaml(&table, &settings, context, &arena, err) &&
                options_read_environment(&table, &settings, environment, &arena, err) &&
                options_set_assignment(&table, &settings, "items=a", "--set", &arena, err);
    arena_free(&arena);
    return done;
}

static void test_option_survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    write_text(f->yaml, "box: {count: 7, name: x}\npath: y\nitems: [a, b]\n");
    assert_survives_failing_allocations(read_all, (void *)(uintptr_t)f->yaml);
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

static void test_option_format_is_what_set_takes(void **state)
{
    struct fixture *f = *state;
    static const char *const values[][2] = {{"flag", "false"},      {"box.count", "-3"},  {"box.size", "0"},
                                            {"box.size", "1000"},   {"box.size", "1MiB"}, {"box.size", "1025"},
                                            {"box.rate", "0.001"},  {"box.rate", "1"},    {"box.rate", "1.0000000001"},
                                            {"box.name", "a\"\n'"}, {"mode", "exact"},    {"color", "red"}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[64], cut[4];
        const struct option *option = options_find(&table, values[i][0]);
        assert_true(set(f, values[i][0], values[i][1]));
        int n = options_format(option, &f->settings, text, sizeof text);
        assert_string_equal(text, values[i][1]);
        assert_int_equal(n, strlen(text));
        assert_int_equal(options_format(option, &f->settings, cut, sizeof cut), n);
        assert_true(strlen(cut) <= 3 && strncmp(cut, text, strlen(cut)) == 0);
    }
}

static char *print_yaml(const struct settings *settings)
{
    char *text = calloc(1, 4096);
    FILE *out = fmemopen(text, 4096, "w");
    assert_non_null(out);
    options_print_yaml(&table, settings, out);
    fclose(out);
    return text;
}

static void test_option_printed_yaml_reads_back(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {
        "plain/path-1.x", "true",           "Null",        "",         "8080", "a: b", "-x", "#x", "it's", "\"q\"",
        "a\\b",           "tab\tnewline\n", "caf\xC3\xA9", "\x01\x7F", "~",    "[x]",  "*a", " x "};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_true(options_set_defaults(&table, &f->settings, &f->arena, &f->err));
        assert_true(set(f, "path", paths[i]) && set(f, "items", paths[i]) && set(f, "items", "b"));
        assert_true(set(f, "box.count", "42") && set(f, "box.size", "3MiB"));
        char *text = print_yaml(&f->settings);
        assert_true(options_set_defaults(&table, &f->settings, &f->arena, &f->err));
        if (!read_yaml(f, text)) fail_msg("%s\n%s", f->err.message, text);
        assert_string_equal(f->settings.path, paths[i]);
        assert_int_equal(f->settings.items.count, 2);
        assert_string_equal(f->settings.items.items[0], paths[i]);
        assert_string_equal(f->settings.items.items[1], "b");
        assert_int_equal(f->settings.count, 42);
        assert_int_equal(f->settings.size, 3 << 20);
        free(text);
    }
}

static void test_option_printed_yaml_has_sections(void **state)
{
    struct fixture *f = *state;
    assert_true(set(f, "items", "a b") && set(f, "items", "c"));
    char *text = print_yaml(&f->settings);
    assert_string_equal(text, "flag: true\nbox:\n  count: 5\n  size: 4KiB\n  rate: 0.5\n  name: n\npath: null\n"
                              "mode: fast\ncolor: green\nitems: [\"a b\", c]\nkeys: []\n");
    free(text);
}

static void test_option_secrets_are_lists_that_are_not_shown(void **state)
{
    struct fixture *f = *state;
    char value[64];
    assert_true(read_yaml(f, "keys:\n  - open sesame\n  - xyzzy\n"));
    assert_int_equal(f->settings.keys.count, 2);
    assert_string_equal(f->settings.keys.items[0], "open sesame");
    options_format(options_find(&table, "keys"), &f->settings, value, sizeof value);
    assert_string_equal(value, "(set), (set)");
    char *text = print_yaml(&f->settings);
    assert_non_null(strstr(text, "keys: [\"(set)\", \"(set)\"]\n"));
    assert_null(strstr(text, "sesame"));
    free(text);
}

static void test_option_help_has_every_key_with_its_default(void **state)
{
    (void)state;
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    options_print_help(&table, out);
    fclose(out);
    for (size_t i = 0; i < table.count; i++) {
        assert_non_null(strstr(text, rows[i].key));
        assert_non_null(strstr(text, rows[i].help));
    }
    assert_non_null(strstr(text, "(an integer from -10 to 100 boxes; default 5)"));
    free(text);
}

#define OPTION_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OPTION_TEST(test_option_defaults_are_set),
        OPTION_TEST(test_option_accepts_each_type),
        OPTION_TEST(test_option_size_has_units),
        OPTION_TEST(test_option_refuses_wrong_values_and_keeps_the_old),
        OPTION_TEST(test_option_errors_say_what_is_allowed),
        OPTION_TEST(test_option_assignment_is_key_and_value),
        OPTION_TEST(test_option_environment_sets_and_refuses),
        OPTION_TEST(test_option_environment_of_containers_is_not_ours),
        OPTION_TEST(test_option_yaml_sets_keys),
        OPTION_TEST(test_option_yaml_may_be_empty),
        OPTION_TEST(test_option_yaml_errors_have_file_line_and_column),
        OPTION_TEST(test_option_yaml_syntax_errors_have_a_place),
        OPTION_TEST(test_option_yaml_deep_or_huge_files_are_refused),
        OPTION_TEST(test_option_survives_failing_allocations),
        OPTION_TEST(test_option_format_is_what_set_takes),
        OPTION_TEST(test_option_printed_yaml_reads_back),
        OPTION_TEST(test_option_printed_yaml_has_sections),
        OPTION_TEST(test_option_secrets_are_lists_that_are_not_shown),
        OPTION_TEST(test_option_help_has_every_key_with_its_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
