#include "model/text/csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static struct csv_reader reader_of(const char *text, size_t n)
{
    return (struct csv_reader){.name = "t.csv", .text = text, .n = n, .line = 1};
}

/* All rows as "line:[field][field] line:[field]...", or the message of an error. */
static void print_rows(const char *text, size_t n, char *out, size_t size)
{
    struct csv_reader reader = reader_of(text, n);
    struct error err = {0};
    size_t used = 0;
    out[0] = '\0';
    while (csv_next_row(&reader)) {
        used += (size_t)snprintf(out + used, size - used, "%s%zu:", used ? " " : "", reader.row_line);
        while (reader.in_row) {
            struct csv_field field;
            char value[64];
            if (!csv_next_field(&reader, &field, &err)) {
                snprintf(out, size, "%s", err.message);
                return;
            }
            size_t length = csv_unquote(&field, value);
            if (!field.doubled) assert_memory_equal(value, field.text, length);
            used += (size_t)snprintf(out + used, size - used, "[%.*s]", (int)length, value);
        }
    }
}

static void assert_rows(const char *text, const char *expected)
{
    char out[ERROR_MESSAGE_SIZE];
    size_t n = strlen(text);
    char *exact = malloc(n + (n == 0)); /* exactly its size, so that a sanitizer sees any read beyond the end */
    memcpy(exact, text, n);
    print_rows(exact, n, out, sizeof out);
    assert_string_equal(out, expected);
    free(exact);
}

static void test_csv_splits_rows_and_fields(void **state)
{
    (void)state;
    assert_rows("", "");
    assert_rows("a", "1:[a]");
    assert_rows("a,b\nc,d\n", "1:[a][b] 2:[c][d]");
    assert_rows("a,b\r\nc,d\r\n", "1:[a][b] 2:[c][d]");
    assert_rows("a,b\nc,d", "1:[a][b] 2:[c][d]");
    assert_rows(",\n,,", "1:[][] 2:[][][]");
    assert_rows("a,", "1:[a][]");
    assert_rows(" a , b ", "1:[ a ][ b ]");
    assert_rows("a\rb,c\r", "1:[a\rb][c]");
}

static void test_csv_skips_blank_lines(void **state)
{
    (void)state;
    assert_rows("\n\r\na\n\n\r\nb\n\n", "3:[a] 6:[b]");
    assert_rows("\n", "");
}

static void test_csv_reads_quoted_fields(void **state)
{
    (void)state;
    assert_rows("\"a\",\"b,c\"\n", "1:[a][b,c]");
    assert_rows("\"\"", "1:[]");
    assert_rows("\"\",\"\"", "1:[][]");
    assert_rows("\"say \"\"hi\"\"\",\"\"\"\"", "1:[say \"hi\"][\"]");
    assert_rows("\"two\nlines\",x\ny\r\n", "1:[two\nlines][x] 3:[y]");
    assert_rows("\"a\"\r\n\"b\"\r", "1:[a] 2:[b]");
}

static void test_csv_says_where_an_unclosed_quote_opened(void **state)
{
    (void)state;
    assert_rows("a\nb,\"c\nd\ne,f\n", "t.csv:2: the quote that opens field 2 is never closed");
    assert_rows("\"", "t.csv:1: the quote that opens field 1 is never closed");
    assert_rows("\"a\"\"", "t.csv:1: the quote that opens field 1 is never closed");
}

static void test_csv_refuses_text_after_a_closing_quote(void **state)
{
    (void)state;
    assert_rows("x\n\"a\nb\"c,d\n", "t.csv:3: text after the closing quote of field 1");
    assert_rows("\"a\" ,b", "t.csv:1: text after the closing quote of field 1");
}

static void test_csv_refuses_a_quote_inside_an_unquoted_field(void **state)
{
    (void)state;
    assert_rows("a\nb,5\" disk", "t.csv:2: a quote inside the unquoted field 2: enclose the field in quotes and double "
                                 "those inside");
}

static void test_csv_takes_nul_as_text(void **state)
{
    (void)state;
    static const char text[] = "a\0b,\"\0\"";
    struct csv_reader reader = reader_of(text, sizeof text - 1);
    struct csv_field field;
    assert_true(csv_next_row(&reader));
    assert_true(csv_next_field(&reader, &field, NULL));
    assert_int_equal(field.n, 3);
    assert_true(csv_next_field(&reader, &field, NULL));
    assert_int_equal(field.n, 1);
    assert_false(reader.in_row);
    assert_false(csv_next_row(&reader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_splits_rows_and_fields),
        cmocka_unit_test(test_csv_skips_blank_lines),
        cmocka_unit_test(test_csv_reads_quoted_fields),
        cmocka_unit_test(test_csv_says_where_an_unclosed_quote_opened),
        cmocka_unit_test(test_csv_refuses_text_after_a_closing_quote),
        cmocka_unit_test(test_csv_refuses_a_quote_inside_an_unquoted_field),
        cmocka_unit_test(test_csv_takes_nul_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
