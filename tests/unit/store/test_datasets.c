#include "server/store/datasets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "tests/unit/support.h"

static const struct corpus_options automatic = {.csv_header = -1};
static const struct corpus_options lines = {.format = CORPUS_LINES, .csv_header = -1};

struct fixture {
    char *directory;
    struct datasets *datasets;
    struct error err;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.directory = temp_dir_new()};
    f.datasets = datasets_new(f.directory, NULL);
    *state = &f;
    return f.datasets ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    datasets_free(f->datasets);
    temp_dir_remove(f->directory);
    return 0;
}

/* Closes and opens, like a daemon that is started again. */
static void reopen(struct fixture *f)
{
    datasets_free(f->datasets);
    assert_true(directory_sweep(f->directory, NULL));
    f->datasets = datasets_new(f->directory, &f->err);
    assert_non_null(f->datasets);
}

/* Writes in pieces of this size. */
static bool upload_pieces(struct datasets *datasets, const char *name, const struct corpus_options *options,
                          const char *text, size_t n, size_t piece, struct error *err)
{
    struct dataset_upload *upload = dataset_upload_new(datasets, name, options, err);
    bool done = upload != NULL;
    for (size_t at = 0; done && at < n; at += piece)
        done = dataset_upload_write(upload, text + at, piece < n - at ? piece : n - at, err);
    done = done && dataset_upload_finish(upload, err);
    dataset_upload_free(upload);
    return done;
}

static bool upload(struct fixture *f, const char *name, const struct corpus_options *options, const char *text)
{
    error_clear(&f->err);
    return upload_pieces(f->datasets, name, options, text, strlen(text), 3, &f->err);
}

static json_int_t number(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value)) fail_msg("%s is no integer", key);
    return json_integer_value(value);
}

static const char *text_of(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static json_t *list_datasets(struct datasets *datasets)
{
    json_t *list = json_array(), *one;
    const char *last = "";
    while ((one = datasets_next(datasets, last, NULL)) != NULL) {
        json_array_append_new(list, one);
        last = json_string_value(json_object_get(one, "name"));
    }
    return list;
}

static void assert_refused(struct fixture *f, const char *name, const struct corpus_options *options, const char *text,
                           enum error_code code, const char *message)
{
    if (upload(f, name, options, text)) fail_msg("accepted: %s", message);
    assert_string_equal(f->err.message, message);
    assert_int_equal(f->err.code, code);
    assert_int_equal(count_entries(f->directory), 0);
    json_t *list = list_datasets(f->datasets);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

/* --- Uploading --- */

static void test_datasets_describe_what_was_uploaded(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "Caf\xC3\xA9\n\nTee\n";
    char sha256[SHA256_TEXT_SIZE];
    sha256_text(text, sizeof text - 1, sha256);
    assert_true(upload(f, "drinks", &lines, text));
    for (int i = 0; i < 2; i++) { /* and after a restart */
        json_t *json = datasets_describe(f->datasets, "drinks", &f->err);
        assert_string_equal(text_of(json, "name"), "drinks");
        assert_int_equal(number(json, "size"), sizeof text - 1);
        assert_string_equal(text_of(json, "sha256"), sha256);
        assert_string_equal(text_of(json, "format"), "lines");
        assert_true(json_is_false(json_object_get(json, "bytes")));
        assert_int_equal(number(json, "documents"), 2);
        assert_int_equal(number(json, "characters"), 7);
        assert_int_equal(number(json, "labels"), 0);
        assert_int_equal(number(json, "alphabet_size"), 6);
        assert_string_equal(text_of(json, "alphabet"), "CTaef\xC3\xA9");
        assert_int_equal(strlen(text_of(json, "uploaded")), 24);
        assert_int_equal(number(json, "users"), 0);
        assert_null(json_object_get(json, "columns"));
        json_decref(json);
        reopen(f);
    }
    char *data = read_text(in_dir(f->directory, "drinks/data"));
    assert_string_equal(data, text);
    free(data);
}

static void test_datasets_keep_how_a_corpus_is_read(void **state)
{
    struct fixture *f = *state;
    char columns[] = "1,2", label[] = "3"; /* the upload copies them */
    struct corpus_options options = {.columns = columns, .label_column = label, .csv_header = 1};
    struct dataset_upload *one = dataset_upload_new(f->datasets, "news.csv", &options, &f->err);
    assert_non_null(one);
    memset(columns, 'x', 3);
    label[0] = 'x';
    assert_true(dataset_upload_write(one, "a,b,c\nd,e,f\ng,h,i\n", 18, &f->err));
    if (!dataset_upload_finish(one, &f->err)) fail_msg("%s", f->err.message);
    dataset_upload_free(one);
    reopen(f);
    const struct stored_dataset *dataset = datasets_acquire(f->datasets, "news.csv", &f->err);
    assert_non_null(dataset);
    assert_string_equal(dataset->name, "news.csv");
    assert_int_equal(dataset->corpus.format, CORPUS_CSV);
    assert_string_equal(dataset->corpus.columns, "1,2");
    assert_string_equal(dataset->corpus.label_column, "3");
    assert_null(dataset->corpus.field);
    assert_int_equal(dataset->corpus.csv_header, 1);
    assert_int_equal(dataset->documents, 2);
    assert_int_equal(dataset->characters, 6);
    assert_int_equal(dataset->size, 18);
    struct corpus corpus;
    assert_true(corpus_load(&corpus, dataset->path, &dataset->corpus, &f->err));
    assert_int_equal(corpus.count, 2);
    corpus_close(&corpus);
    datasets_release(f->datasets, dataset);
    options = (struct corpus_options){.field = "body", .csv_header = -1};
    assert_true(upload(f, "news.jsonl", &options, "{\"body\": \"x\"}"));
    dataset = datasets_acquire(f->datasets, "news.jsonl", &f->err);
    assert_string_equal(dataset->corpus.field, "body");
    datasets_release(f->datasets, dataset);
}

static void test_datasets_refuse_names_that_are_none(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"",   ".",  "..",  "../x",     "a/b",
                                        "-x", ".x", "a b", "\xC3\xA9", "a.tmp-0123456789ab"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (upload(f, names[i], &automatic, "text")) fail_msg("accepted: %s", names[i]);
        assert_int_equal(f->err.code, ERROR_INVALID);
    }
    assert_int_equal(count_entries(f->directory), 0);
}

static void test_datasets_refuse_what_is_not_utf8_with_its_place(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"ab\ncd\xFFz", "x:2: not UTF-8 at byte offset 5 (byte ff): "},
        {"\n\n\xC3(", "x:3: not UTF-8 at byte offset 2 (byte c3): "},
        {"abcd\xE2\xE2\x82\xAC", "x:1: not UTF-8 at byte offset 4 (byte e2): "},
        {"\xE2\x82\xAC\xED\xA0\x80", "x:1: not UTF-8 at byte offset 3 (byte ed): "},
        {"a\xF0\x9F\x98", "the file ends within a character: x:1: not UTF-8 at byte offset 1 (byte f0): "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[512];
        snprintf(
            message, sizeof message,
            "%sconvert the file (iconv -f CP1252 -t UTF-8, if it comes from Windows), or upload it with ?bytes=true",
            cases[i].message);
        for (size_t piece = 1; piece < 10; piece++) {
            error_clear(&f->err);
            assert_false(
                upload_pieces(f->datasets, "x", &automatic, cases[i].text, strlen(cases[i].text), piece, &f->err));
            assert_string_equal(f->err.message, message);
            assert_int_equal(f->err.code, ERROR_INVALID);
            assert_int_equal(count_entries(f->directory), 0);
        }
    }
}

static void test_datasets_take_characters_in_pieces(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\n\xF0\x9F\x98\x80z\xE2\x82\xAC";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        if (!upload_pieces(f->datasets, "x", &automatic, text, sizeof text - 1, piece, &f->err))
            fail_msg("%zu: %s", piece, f->err.message);
        json_t *json = datasets_describe(f->datasets, "x", NULL);
        assert_int_equal(number(json, "characters"), 7);
        json_decref(json);
    }
}

static void test_datasets_bytes_may_be_anything(void **state)
{
    struct fixture *f = *state;
    const struct corpus_options options = {.bytes = true, .csv_header = -1};
    assert_true(upload(f, "x", &options, "a\xFF\xC3"));
    const struct stored_dataset *dataset = datasets_acquire(f->datasets, "x", NULL);
    assert_true(dataset->corpus.bytes);
    assert_int_equal(dataset->characters, 3);
    datasets_release(f->datasets, dataset);
}

static void test_datasets_errors_of_formats_name_the_line(void **state)
{
    struct fixture *f = *state;
    const struct corpus_options csv = {.format = CORPUS_CSV, .columns = "2", .csv_header = 0};
    const struct corpus_options jsonl = {.format = CORPUS_JSONL, .csv_header = -1};
    assert_refused(f, "x", &automatic, "", ERROR_INVALID, "x: the corpus has no text");
    assert_refused(f, "x", &lines, "\n\n", ERROR_INVALID, "x: the corpus has no text");
    assert_refused(f, "x", &csv, "a,b\nc\n", ERROR_INVALID, "x:2: the row has 1 column, and column 2 is wanted");
    assert_refused(f, "x", &jsonl, "{\"text\": \"a\"}\n{\"txt\": 1}\n", ERROR_INVALID,
                   "x:2: no field \"text\"; the fields are \"txt\"");
}

/* --- Replacing, deleting, holding --- */

static void test_datasets_are_replaced_as_a_whole(void **state)
{
    struct fixture *f = *state;
    struct dataset_upload *one = dataset_upload_new(f->datasets, "x", &automatic, NULL);
    struct dataset_upload *other = dataset_upload_new(f->datasets, "x", &automatic, NULL);
    assert_true(dataset_upload_write(one, "first", 5, NULL));
    assert_true(dataset_upload_write(other, "second!", 7, NULL));
    assert_null(datasets_describe(f->datasets, "x", &f->err));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
    assert_true(dataset_upload_finish(one, NULL));
    assert_false(dataset_upload_replaced(one));
    json_t *json = datasets_describe(f->datasets, "x", NULL);
    assert_int_equal(number(json, "size"), 5);
    json_decref(json);
    assert_true(dataset_upload_finish(other, NULL));
    assert_true(dataset_upload_replaced(other));
    assert_string_equal(dataset_upload_name(other), "x");
    json = datasets_describe(f->datasets, "x", NULL);
    assert_int_equal(number(json, "size"), 7);
    json_decref(json);
    dataset_upload_free(one);
    dataset_upload_free(other);
    assert_int_equal(count_entries(f->directory), 1);
    assert_int_equal(count_entries(in_dir(f->directory, "x")), 2);
}

static void test_datasets_failed_replacement_leaves_the_old(void **state)
{
    struct fixture *f = *state;
    assert_true(upload(f, "x", &automatic, "old"));
    assert_false(upload(f, "x", &automatic, "new\xFF"));
    assert_false(upload(f, "x", &automatic, ""));
    struct dataset_upload *left = dataset_upload_new(f->datasets, "x", &automatic, NULL);
    assert_true(dataset_upload_write(left, "new", 3, NULL));
    dataset_upload_free(left);
    char *data = read_text(in_dir(f->directory, "x/data"));
    assert_string_equal(data, "old");
    free(data);
    assert_int_equal(count_entries(f->directory), 1);
}

static void test_datasets_that_are_held_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_true(upload(f, "x", &automatic, "old"));
    struct dataset_upload *begun = dataset_upload_new(f->datasets, "x", &automatic, NULL);
    assert_true(dataset_upload_write(begun, "new", 3, NULL));
    const struct stored_dataset *one = datasets_acquire(f->datasets, "x", NULL),
                                *two = datasets_acquire(f->datasets, "x", NULL);
    assert_ptr_equal(one, two);
    assert_false(dataset_upload_finish(begun, &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    assert_string_equal(err.message, "the dataset \"x\" is in use by 2 training jobs");
    dataset_upload_free(begun);
    error_clear(&err);
    assert_null(dataset_upload_new(f->datasets, "x", &automatic, &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    datasets_release(f->datasets, two);
    error_clear(&err);
    assert_false(datasets_delete(f->datasets, "x", &err));
    assert_string_equal(err.message, "the dataset \"x\" is in use by 1 training job");
    json_t *json = datasets_describe(f->datasets, "x", NULL);
    assert_int_equal(number(json, "users"), 1);
    json_decref(json);
    datasets_release(f->datasets, one);
    assert_true(upload(f, "x", &automatic, "new"));
    assert_true(datasets_delete(f->datasets, "x", NULL));
}

static void test_datasets_delete_and_list(void **state)
{
    struct fixture *f = *state;
    assert_true(upload(f, "b", &automatic, "text") && upload(f, "c", &automatic, "text") &&
                upload(f, "a", &automatic, "text"));
    json_t *list = list_datasets(f->datasets);
    assert_int_equal(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        const char name[2] = {(char)('a' + i), '\0'};
        assert_string_equal(text_of(json_array_get(list, i), "name"), name);
        assert_null(json_object_get(json_array_get(list, i), "alphabet"));
    }
    json_decref(list);
    assert_true(datasets_delete(f->datasets, "b", NULL));
    assert_false(datasets_delete(f->datasets, "b", &f->err));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
    error_clear(&f->err);
    assert_null(datasets_acquire(f->datasets, "b", &f->err));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
    error_clear(&f->err);
    assert_false(datasets_delete(f->datasets, "../a", &f->err));
    assert_int_equal(f->err.code, ERROR_NOT_FOUND);
    reopen(f);
    list = list_datasets(f->datasets);
    assert_int_equal(json_array_size(list), 2);
    json_decref(list);
}

/* --- Files that a start finds on the disk --- */

static void list_nothing(void *context)
{
    struct fixture *f = context;
    reopen(f);
    json_t *list = list_datasets(f->datasets);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

static void test_datasets_that_cannot_be_read_are_left_out(void **state)
{
    struct fixture *f = *state;
    static const char *const descriptions[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"size\": 3, \"characters\": 3, \"documents\": 1, \"sha256\": \"x\", \"format\": \"text\", \"bytes\": false}",
        "{\"size\": \"3\"}",
        NULL};
    assert_true(upload(f, "x", &automatic, "abc"));
    char *good = read_text(in_dir(f->directory, "x/dataset.json"));
    for (size_t i = 0; i < sizeof descriptions / sizeof *descriptions; i++) {
        if (descriptions[i])
            write_text(in_dir(f->directory, "x/dataset.json"), descriptions[i]);
        else
            unlink(in_dir(f->directory, "x/dataset.json"));
        char *log = capture_output(STDERR_FILENO, list_nothing, f);
        assert_non_null(strstr(log, "event=\"dataset left out\" name=x"));
        free(log);
    }
    write_text(in_dir(f->directory, "x/dataset.json"), good);
    free(good);
    write_text(in_dir(f->directory, "x/data"), "abcd");
    free(capture_output(STDERR_FILENO, list_nothing, f));
    write_text(in_dir(f->directory, "x/data"), "abc");
    reopen(f);
    assert_non_null(datasets_acquire(f->datasets, "x", NULL));
}

struct attempt {
    struct fixture *f;
    const char *text;
};

static bool replace(void *context, struct error *err)
{
    const struct attempt *attempt = context;
    return upload_pieces(attempt->f->datasets, "x", &automatic, attempt->text, strlen(attempt->text), 2, err);
}

/* The files are those that the description has, and they are the old or the new ones. */
static void assert_old_or_new(struct fixture *f)
{
    char *data = read_text(in_dir(f->directory, "x/data"));
    json_t *json = datasets_describe(f->datasets, "x", NULL);
    assert_non_null(data);
    assert_non_null(json);
    assert_true(strcmp(data, "old") == 0 || strcmp(data, "newer") == 0);
    assert_int_equal(number(json, "size"), strlen(data));
    free(data);
    json_decref(json);
}

static void test_datasets_survive_failing_system_calls(void **state)
{
    struct fixture *f = *state;
    struct attempt attempt = {.f = f, .text = "newer"};
    for (size_t n = 1;; n++) {
        struct error err = {0};
        assert_true(upload(f, "x", &automatic, "old"));
        fail_call(n, ENOSPC);
        const bool done = replace(&attempt, &err);
        const bool failed = fail_call_done();
        assert_old_or_new(f);
        if (!failed) {
            assert_true(done);
            assert_true(n > 8);
            break;
        }
        if (!done) assert_int_equal(err.code, ERROR_NO_SPACE);
    }
    reopen(f);
    assert_int_equal(count_entries(f->directory), 1);
}

static void test_datasets_killed_at_any_call_leave_old_or_new(void **state)
{
    struct fixture *f = *state;
    struct attempt attempt = {.f = f, .text = "newer"};
    for (size_t n = 1;; n++) {
        assert_true(upload(f, "x", &automatic, "old"));
        const pid_t child = fork();
        if (child == 0) {
            fail_call(n, KILLED);
            _exit(replace(&attempt, NULL) ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        reopen(f);
        assert_old_or_new(f);
        assert_int_equal(count_entries(f->directory), 1);
        if (!WIFSIGNALED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_true(n > 8);
            return;
        }
    }
}

static bool everything(void *context, struct error *err)
{
    struct fixture *f = context;
    struct datasets *datasets = datasets_new(f->directory, err);
    const struct corpus_options options = {.columns = "1", .label_column = "2", .csv_header = 0, .format = CORPUS_CSV};
    bool done = datasets && upload_pieces(datasets, "x", &options, "a,b\n", 4, 4, err);
    const struct stored_dataset *held = done ? datasets_acquire(datasets, "x", err) : NULL;
    if (held) datasets_release(datasets, held);
    done = done && held && datasets_delete(datasets, "x", err);
    datasets_free(datasets);
    return done;
}

static void test_datasets_survive_failing_allocations(void **state)
{
    struct fixture *f = *state;
    assert_true(upload(f, "y", &automatic, "text"));
    assert_survives_failing_allocations(everything, f);
    reopen(f);
    assert_non_null(datasets_acquire(f->datasets, "y", NULL));
}

#define DATASETS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DATASETS_TEST(test_datasets_describe_what_was_uploaded),
        DATASETS_TEST(test_datasets_keep_how_a_corpus_is_read),
        DATASETS_TEST(test_datasets_refuse_names_that_are_none),
        DATASETS_TEST(test_datasets_refuse_what_is_not_utf8_with_its_place),
        DATASETS_TEST(test_datasets_take_characters_in_pieces),
        DATASETS_TEST(test_datasets_bytes_may_be_anything),
        DATASETS_TEST(test_datasets_errors_of_formats_name_the_line),
        DATASETS_TEST(test_datasets_are_replaced_as_a_whole),
        DATASETS_TEST(test_datasets_failed_replacement_leaves_the_old),
        DATASETS_TEST(test_datasets_that_are_held_stay_as_they_are),
        DATASETS_TEST(test_datasets_delete_and_list),
        DATASETS_TEST(test_datasets_that_cannot_be_read_are_left_out),
        DATASETS_TEST(test_datasets_survive_failing_system_calls),
        DATASETS_TEST(test_datasets_killed_at_any_call_leave_old_or_new),
        DATASETS_TEST(test_datasets_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
