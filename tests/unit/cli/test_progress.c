#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static const struct trainer_progress now = {.epoch = 3,
                                            .epochs = 10,
                                            .step = 120,
                                            .steps = 740,
                                            .fraction = 0.45,
                                            .seconds = 60,
                                            .eta_seconds = 3723,
                                            .nats_per_character = 2.0131,
                                            .bits_per_character = 2.9043,
                                            .characters_per_second = 61234,
                                            .rate = 0.002,
                                            .gradient_norm = 0.8123};

static void test_progress_bar_fits_any_width(void **state)
{
    (void)state;
    for (size_t width = 1; width <= 250; width++) {
        char line[251];
        size_t n = progress_bar(&now, width, line, sizeof line);
        assert_int_equal(n, strlen(line));
        assert_true(n <= width);
    }
}

static void test_progress_bar_shows_everything_where_there_is_room(void **state)
{
    (void)state;
    static const char *const parts[] = {"epoch 3/10",      "45%",           "2.013 nats/char", "ETA 1:02:03",
                                        "2.904 bits/char", "61.2k chars/s", "lr 0.002",        "norm 0.81"};
    char line[251];
    progress_bar(&now, 140, line, sizeof line);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(line, parts[i])) fail_msg("\"%s\" lacks \"%s\"", line, parts[i]);
    }
    assert_non_null(strstr(line, "[#"));
    assert_non_null(strstr(line, ".]"));
}

static void test_progress_bar_keeps_loss_and_time_on_a_narrow_terminal(void **state)
{
    (void)state;
    char line[251];
    progress_bar(&now, 60, line, sizeof line);
    assert_non_null(strstr(line, "nats/char"));
    assert_non_null(strstr(line, "ETA"));
    assert_null(strstr(line, "norm"));
}

static void write_hostile_sample(void *context)
{
    struct progress progress;
    const struct trainer_sample *sample = context;
    progress_open(&progress, stderr);
    progress_sample(&progress, sample);
}

static void test_progress_sample_cannot_control_the_terminal(void **state)
{
    (void)state;
    struct trainer_sample sample = {.epoch = 1,
                                    .temperature = 0.5,
                                    .prompt = "",
                                    .text = "a\033[2Jb\rc\xff"
                                            "d\ne"};
    char *text = capture_output(2, write_hostile_sample, &sample);
    assert_string_equal(text, "samples of epoch 1, by temperature\n  0.5: a [2Jb c\xef\xbf\xbd"
                              "d\n       e\n");
    free(text);
}

static void write_validation(void *context)
{
    struct progress progress;
    progress_open(&progress, stderr);
    progress_validation(&progress, context);
}

static void test_progress_validation_marks_the_best(void **state)
{
    (void)state;
    struct evaluation evaluation = {
        .nats_per_character = 1.5, .bits_per_character = 2.164, .perplexity = 4.4817, .tokens = 1};
    struct trainer_validation validation = {.epoch = 2,
                                            .step = 40,
                                            .evaluation = &evaluation,
                                            .train_nats_per_character = 1.4,
                                            .held_out = true,
                                            .best = true};
    char *text = capture_output(2, write_validation, &validation);
    assert_string_equal(text, "epoch 2, step 40: validation 1.5000 nats/char, 2.1640 bits/char, perplexity 4.482; "
                              "training 1.4000 nats/char *best*\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_bar_fits_any_width),
        cmocka_unit_test(test_progress_bar_shows_everything_where_there_is_room),
        cmocka_unit_test(test_progress_bar_keeps_loss_and_time_on_a_narrow_terminal),
        cmocka_unit_test(test_progress_sample_cannot_control_the_terminal),
        cmocka_unit_test(test_progress_validation_marks_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
