/* server/http/multipart: the parts of a form. The pieces of its body may end anywhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/multipart.h"
#include "tests/unit/support.h"

/* "[name]data[name]data" of what passed by. */
struct seen {
    char text[4096];
    size_t size;
};

static bool see(struct seen *seen, const char *data, size_t n)
{
    assert_true(seen->size + n < sizeof seen->text);
    memcpy(seen->text + seen->size, data, n);
    seen->size += n;
    return true;
}

static bool see_part(const char *name, void *context, struct error *err)
{
    (void)err;
    return see(context, "[", 1) && see(context, name, strlen(name)) && see(context, "]", 1);
}

static bool see_data(const char *data, size_t size, void *context, struct error *err)
{
    if (size > 4 && memcmp(data, "stop", 4) == 0) return error_set(err, ERROR_NO_SPACE, "stopped");
    return see(context, data, size);
}

static bool parse(const char *type, const char *body, size_t piece, struct seen *seen, struct error *err)
{
    const struct multipart_sink sink = {see_part, see_data, seen};
    *seen = (struct seen){0};
    struct multipart *multipart = multipart_new(type, &sink, err);
    bool ok = multipart != NULL;
    for (size_t at = 0, size = strlen(body); ok && at < size; at += piece)
        ok = multipart_write(multipart, body + at, piece < size - at ? piece : size - at, err);
    ok = ok && multipart_finish(multipart, err);
    multipart_free(multipart);
    return ok;
}

#define TYPE             "multipart/form-data; charset=utf-8; boundary=abc"
#define PART(name, data) "--abc\r\nContent-Disposition: form-data; filename=\"x\"; name=" name "\r\n\r\n" data "\r\n"

static void test_parts_in_pieces_of_every_size(void **state)
{
    (void)state;
    const char body[] = "preamble\r\n" PART("\"file\"", "one\r\n--ab\r\n--abd\r\ntwo\r\n") PART("plain", "")
        PART("\"a b\"", "\r\n\r\n") "--abc--\r\nepilogue --abc\r\n";
    for (size_t piece = 1; piece <= sizeof body; piece++) {
        struct seen seen;
        struct error err = {0};
        if (!parse(TYPE, body, piece, &seen, &err)) fail_msg("%zu: %s", piece, err.message);
        assert_string_equal(seen.text, "[file]one\r\n--ab\r\n--abd\r\ntwo\r\n[plain][a b]\r\n\r\n");
    }
}

static void test_what_is_no_form_is_refused(void **state)
{
    (void)state;
    char longest[10000];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "--abc\r\n", 7);
    longest[sizeof longest - 1] = '\0';
    const struct {
        const char *type, *body, *fragment;
    } cases[] = {
        {"multipart/form-data", "", "must have a boundary"},
        {"multipart/form-data; boundary=", "", "must have a boundary"},
        {"multipart/form-data; boundary=\"abc", "", "must have a boundary"},
        {TYPE, "", "has no end"},
        {TYPE, "--abc", "has no end"},
        {TYPE, PART("a", "x"), "has no end"},
        {TYPE, "--abcd\r\n", "followed by neither"},
        {TYPE, "--abc\r\n\r\nx", "has no name"},
        {TYPE, "--abc\r\nContent-Disposition: form-data; filename=\"name\"\r\n\r\n", "has no name"},
        {TYPE, PART("\"unended", ""), "has no name"},
        {TYPE, longest, "the head of a part of the form is longer"},
        {TYPE, PART("a", "stop it, all of it"), "stopped"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;
        struct error err = {0};
        assert_false(parse(cases[i].type, cases[i].body, 20000, &seen, &err));
        if (!strstr(err.message, cases[i].fragment)) fail_msg("%zu: \"%s\"", i, err.message);
    }
}

static bool parse_one(void *context, struct error *err)
{
    return parse(TYPE, PART("a", "b") "--abc--", 7, context, err);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct seen seen;
    assert_survives_failing_allocations(parse_one, &seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_in_pieces_of_every_size),
        cmocka_unit_test(test_what_is_no_form_is_refused),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
