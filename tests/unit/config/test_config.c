#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/unit/support.h"

/* Tests run in the top directory of the sources. */
#define EXAMPLE "config/lstmd.yaml"

static bool load(struct config *config, const char *path, char *const *environment, const char *assignment,
                 struct error *err)
{
    return config_load(config, path, environment, &assignment, assignment != NULL, err);
}

static void assert_equal_configs(const struct config *a, const struct config *b)
{
    for (size_t i = 0; i < config_table.count; i++) {
        char of_a[256], of_b[256];
        options_format(&config_table.options[i], a, of_a, sizeof of_a);
        options_format(&config_table.options[i], b, of_b, sizeof of_b);
        if (strcmp(of_a, of_b) != 0) fail_msg("%s: %s and %s", config_table.options[i].key, of_a, of_b);
    }
}

static void test_config_defaults(void **state)
{
    (void)state;
    struct config config;
    struct error err = {0};
    assert_true(load(&config, NULL, NULL, NULL, &err));
    assert_string_equal(config.listen, "127.0.0.1");
    assert_int_equal(config.port, 8080);
    assert_int_equal((int)config.drain_seconds, 10);
    assert_string_equal(config.model_path, "model/pretrained/headlines");
    assert_string_equal(config.kernel, "auto");
    assert_int_equal(config.max_batch, 64);
    assert_int_equal(config.max_body, 1 << 20);
    assert_int_equal(config.max_length, 10000);
    assert_int_equal(config.max_connections, 1024);
    assert_int_equal(config.queue, 256);
    assert_int_equal((int)config.idle_timeout, 60);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config.log_format, LOG_LOGFMT);
    config_close(&config);
    config_close(&config);
}

static void test_config_names_of_log_settings_are_those_of_the_log(void **state)
{
    (void)state;
    static const struct {
        const char *assignment;
        int level, format;
    } cases[] = {{"log.level=debug", LOG_DEBUG, LOG_LOGFMT},
                 {"log.level=warning", LOG_WARNING, LOG_LOGFMT},
                 {"log.level=error", LOG_ERROR, LOG_LOGFMT},
                 {"log.format=json", LOG_INFO, LOG_JSON}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config config;
        assert_true(load(&config, NULL, NULL, cases[i].assignment, NULL));
        assert_int_equal(config.log_level, cases[i].level);
        assert_int_equal(config.log_format, cases[i].format);
        config_close(&config);
    }
}

static void test_config_later_sources_win(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.yaml");
    static char *const environment[] = {"LSTMD_LIMITS_QUEUE=2", "LSTMD_LIMITS_MAX_LENGTH=2", NULL};
    struct config config;
    write_text(path, "limits: {queue: 1, max_length: 1, max_connections: 1}\n");
    assert_true(load(&config, path, environment, "limits.queue=3", NULL));
    assert_int_equal(config.max_connections, 1);
    assert_int_equal(config.max_length, 2);
    assert_int_equal(config.queue, 3);
    config_close(&config);
    temp_dir_remove(directory);
}

static void test_config_file_may_be_named_by_the_environment(void **state)
{
    (void)state;
    char *directory = temp_dir_new(), variable[4200];
    const char *path = in_dir(directory, "a.yaml"), *other = in_dir(directory, "b.yaml");
    snprintf(variable, sizeof variable, "LSTMD_CONFIG=%s", path);
    char *const environment[] = {variable, NULL};
    struct config config;
    write_text(path, "server: {port: 1}\n");
    write_text(other, "server: {port: 2}\n");
    assert_true(load(&config, NULL, environment, NULL, NULL));
    assert_int_equal(config.port, 1);
    config_close(&config);
    assert_true(load(&config, other, environment, NULL, NULL));
    assert_int_equal(config.port, 2);
    config_close(&config);
    temp_dir_remove(directory);
}

static void test_config_errors_say_where(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.yaml");
    static char *const environment[] = {"LSTMD_SERVER_PORT=http", NULL};
    struct config config;
    struct error err = {0};
    write_text(path, "server:\n  prot: 1\n");
    assert_false(load(&config, path, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "a.yaml:2:3: unknown key \"server.prot\", did you mean \"server.port\"?"));
    config_close(&config);
    error_clear(&err);
    assert_false(load(&config, NULL, environment, NULL, &err));
    assert_string_equal(err.message, "LSTMD_SERVER_PORT: \"http\" is not allowed, expected an integer from 0 to 65535");
    config_close(&config);
    error_clear(&err);
    assert_false(load(&config, NULL, NULL, "server.port=65536", &err));
    assert_string_equal(err.message,
                        "--set: server.port: \"65536\" is not allowed, expected an integer from 0 to 65535");
    config_close(&config);
    temp_dir_remove(directory);
}

static void test_config_every_limit_holds(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_table.count; i++) {
        const struct option *option = &config_table.options[i];
        if (option->type != OPTION_INT && option->type != OPTION_SIZE && option->type != OPTION_REAL) continue;
        const double inside[] = {option->minimum, option->maximum};
        const double outside[] = {option->minimum - 1, option->maximum + 1};
        for (int j = 0; j < 2; j++) {
            char assignment[128];
            struct config config;
            snprintf(assignment, sizeof assignment, "%s=%.15g", option->key, inside[j]);
            assert_true(load(&config, NULL, NULL, assignment, NULL));
            config_close(&config);
            snprintf(assignment, sizeof assignment, "%s=%.15g", option->key, outside[j]);
            assert_false(load(&config, NULL, NULL, assignment, NULL));
            config_close(&config);
        }
    }
}

static void test_config_example_has_every_key_at_its_default(void **state)
{
    (void)state;
    struct config defaults, example;
    struct error err = {0};
    assert_true(load(&defaults, NULL, NULL, NULL, &err));
    if (!load(&example, EXAMPLE, NULL, NULL, &err)) fail_msg("%s", err.message);
    assert_equal_configs(&defaults, &example);
    config_close(&defaults);
    config_close(&example);
}

/* So that the defaults above do not stand in for a key that the example lacks. */
static void test_config_example_names_every_key(void **state)
{
    (void)state;
    char *text = read_text(EXAMPLE);
    assert_non_null(text);
    for (size_t i = 0; i < config_table.count; i++) {
        char line[128];
        const char *key = config_table.options[i].key, *dot = strchr(key, '.');
        snprintf(line, sizeof line, "\n%.*s:\n", (int)(dot - key), key);
        char *section = strstr(text, line);
        assert_non_null(section);
        snprintf(line, sizeof line, "\n  %s: ", dot + 1);
        char *found = strstr(section, line), *next = strstr(section, "\n\n");
        if (!found || (next && found > next)) fail_msg("%s is missing in %s", key, EXAMPLE);
    }
    free(text);
}

/* The output of `lstmd config` is a configuration: sections are whole, and sizes read back. */
static void test_config_printed_is_read_back(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "printed.yaml");
    struct config config, back;
    struct error err = {0};
    assert_true(load(&config, NULL, NULL, "cache.max_bytes=1TiB", &err));
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    const struct option_table origins = config_origins(&config);
    options_print_yaml(&origins, &config, out);
    fclose(out);
    if (!load(&back, path, NULL, NULL, &err)) fail_msg("%s", err.message);
    assert_equal_configs(&config, &back);
    config_close(&config);
    config_close(&back);
    temp_dir_remove(directory);
}

static const char *place_of(const struct config *config, const char *key)
{
    const char *place = config->origins[options_find(&config_table, key) - config_table.options].place;
    return place ? place : "default";
}

static char told[256];

static void tell(const char *key, const char *variable, const char *overridden)
{
    const size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s %s %s;", key, variable, strrchr(overridden, '/') + 1);
}

static void test_config_knows_where_each_value_comes_from(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.yaml");
    static char *const environment[] = {"LSTMD_SERVER_PORT=2", "LSTMD_LOG_LEVEL=debug", "LSTMD_LIMITS_QUEUE=3",
                                        "LSTMD_AUTH_ADMIN_TOKENS=of-the-environment", NULL};
    struct config config;
    write_text(path, "server:\n  port: 1\n  ping_seconds: 2\nlimits: {queue: 5}\nlog:\n  format: json\n"
                     "auth:\n  admin_tokens:\n    - of-the-file\n");
    assert_true(load(&config, path, environment, "limits.queue=9", NULL));
    assert_string_equal(place_of(&config, "server.port"), "LSTMD_SERVER_PORT");
    assert_string_equal(place_of(&config, "log.level"), "LSTMD_LOG_LEVEL");
    assert_string_equal(place_of(&config, "limits.queue"), "--set");
    assert_string_equal(place_of(&config, "limits.max_n"), "default");
    assert_string_equal(strrchr(place_of(&config, "server.ping_seconds"), '/'), "/a.yaml:3");
    assert_string_equal(strrchr(place_of(&config, "auth.admin_tokens"), '/'), "/a.yaml:8, LSTMD_AUTH_ADMIN_TOKENS");
    *told = '\0';
    config_each_override(&config, tell); /* what --set says is said on purpose, and tokens are added */
    assert_string_equal(told, "server.port LSTMD_SERVER_PORT a.yaml:2;");
    config_close(&config);
    temp_dir_remove(directory);
}

static void test_config_refuses_a_key_that_is_set_twice(void **state)
{
    (void)state;
    static const char *const twice[] = {"server.port=1", "server.port=2"};
    static const char *const lists[] = {"server.trusted_proxies=::1", "server.trusted_proxies=10.0.0.1"};
    struct config config;
    struct error err = {0};
    assert_false(config_load(&config, NULL, NULL, twice, 2, &err));
    assert_string_equal(err.message, "--set: server.port: given twice");
    config_close(&config);
    assert_true(config_load(&config, NULL, NULL, lists, 2, NULL));
    assert_int_equal(config.trusted_proxies.count, 2);
    config_close(&config);
}

static bool load_example(void *context, struct error *err)
{
    (void)context;
    static char *const environment[] = {"LSTMD_SERVER_PORT=1", NULL};
    struct config config;
    bool done = load(&config, EXAMPLE, environment, "log.level=error", err);
    config_close(&config);
    return done;
}

static void test_config_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(load_example, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_defaults),
        cmocka_unit_test(test_config_names_of_log_settings_are_those_of_the_log),
        cmocka_unit_test(test_config_later_sources_win),
        cmocka_unit_test(test_config_file_may_be_named_by_the_environment),
        cmocka_unit_test(test_config_errors_say_where),
        cmocka_unit_test(test_config_every_limit_holds),
        cmocka_unit_test(test_config_example_has_every_key_at_its_default),
        cmocka_unit_test(test_config_example_names_every_key),
        cmocka_unit_test(test_config_printed_is_read_back),
        cmocka_unit_test(test_config_knows_where_each_value_comes_from),
        cmocka_unit_test(test_config_refuses_a_key_that_is_set_twice),
        cmocka_unit_test(test_config_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
