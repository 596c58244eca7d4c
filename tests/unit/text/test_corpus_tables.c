/* model/text/corpus_csv.c: csv and tsv. */
#include "tests/unit/text/corpus_support.h"

#include <string.h>

#include "tests/unit/support.h"

/* ---- csv ---- */

static void test_corpus_csv_chooses_columns_by_name(void **state)
{
    (void)state;
    assert_corpus_loads("a.csv", corpus_table, corpus_csv_options("title", NULL), "Cats|Dogs, big|Birds");
    assert_corpus_loads("a.csv", corpus_table, corpus_csv_options("description", "label"),
                        "1=They say \"meow\"|2=Woof\nwoof");
    assert_corpus_loads("a.csv", corpus_table, corpus_csv_options("title,description", "label"),
                        "1=Cats\nThey say \"meow\"|2=Dogs, big\nWoof\nwoof|Birds\n");
    assert_corpus_loads("a.csv", corpus_table, corpus_csv_options(" description , title", NULL),
                        "They say \"meow\"\nCats|Woof\nwoof\nDogs, big|\nBirds");
}

static void test_corpus_csv_chooses_columns_by_number(void **state)
{
    (void)state;
    assert_corpus_loads("a.csv", "1,Cats,Meow\n2,Dogs,Woof\n", corpus_csv_options("2", "1"), "1=Cats|2=Dogs");
    assert_corpus_loads("a.csv", "1,Cats,Meow\n2,Dogs,Woof\n", corpus_csv_options("3,2", NULL),
                        "Meow\nCats|Woof\nDogs");
}

static void test_corpus_csv_header_can_be_forced(void **state)
{
    (void)state;
    struct corpus_options options = corpus_csv_options("2", NULL);
    options.csv_header = 1;
    assert_corpus_loads("a.csv", "a,b\nc,d\n", options, "d");
    options = corpus_csv_options("title", NULL);
    options.csv_header = 0;
    assert_corpus_refused("a.csv", "title\nx\n", options, "a.csv: without a header, columns are chosen by number");
}

static void test_corpus_csv_mixes_names_and_numbers(void **state)
{
    (void)state;
    assert_corpus_loads("a.csv", corpus_table, corpus_csv_options("title", "1"), "1=Cats|2=Dogs, big|Birds");
}

static void test_corpus_csv_keeps_each_label_once(void **state)
{
    (void)state;
    struct corpus corpus = load_corpus("a.csv", "x,\"l\"\ny,l\nz,\"m\"\"\"\n", corpus_csv_options("1", "2"));
    assert_ptr_equal(corpus.documents[0].label, corpus.documents[1].label);
    assert_string_equal(corpus.documents[2].label, "m\"");
    corpus_close(&corpus);
}

static void test_corpus_csv_lists_the_columns_there_are(void **state)
{
    (void)state;
    assert_corpus_refused(
        "a.csv", corpus_table, corpus_csv_options("headline", NULL),
        "a.csv:1: no column is named \"headline\"; the columns are \"label\", \"title\", \"description\"");
    assert_corpus_refused(
        "a.csv", corpus_table, corpus_csv_options("title", "class"),
        "a.csv:1: no column is named \"class\"; the columns are \"label\", \"title\", \"description\"");
    assert_corpus_refused(
        "a.csv", corpus_table, corpus_automatic,
        "a.csv: choose the columns of the text by name or number; the first row is \"label\", \"title\", "
        "\"description\"");
}

static void test_corpus_csv_short_row_names_line_and_columns(void **state)
{
    (void)state;
    assert_corpus_refused("a.csv", "a,b,c\n\"x\ny\",z,1\nd,e\n", corpus_csv_options("3", NULL),
                          "a.csv:4: the row has 2 columns, and column 3 is wanted");
    assert_corpus_refused("a.csv", "a\n", corpus_csv_options("1", "2"),
                          "a.csv:1: the row has 1 column, and column 2 is wanted");
}

static void test_corpus_csv_refuses_senseless_columns(void **state)
{
    (void)state;
    assert_corpus_refused("a.csv", "a,b\n", corpus_csv_options("1,1", NULL), "a.csv: column \"1\" is chosen twice");
    assert_corpus_refused("a.csv", "a,b\nc,d", corpus_csv_options("a", "1"), "a.csv: column \"1\" is chosen twice");
    assert_corpus_refused("a.csv", "a,b\n", corpus_csv_options("1,,2", NULL), "a column has no name");
    assert_corpus_refused("a.csv", "a,b\n", corpus_csv_options("", NULL), "a column has no name");
    assert_corpus_refused("a.csv", "a,b\n", corpus_csv_options("0", NULL),
                          "a.csv:1: no column is named \"0\"; the columns are \"a\", \"b\"");
    const char *many = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17";
    assert_corpus_refused("a.csv", "a,b\n", corpus_csv_options(many, NULL),
                          "more than 16 columns: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17");
}

static void test_corpus_csv_unclosed_quote_names_its_line(void **state)
{
    (void)state;
    static const char text[] = "1,\"fine\"\n2,\"not closed\n3,x\n";
    assert_corpus_refused("a.csv", text, corpus_csv_options("2", NULL),
                          "a.csv:2: the quote that opens field 2 is never closed");
}

/* ---- other forms of the same ---- */

static void test_corpus_tables_may_be_separated_by_tabs(void **state)
{
    (void)state;
    const char *tabs = "id\ttitle\n1\tone, \"two\"\n2\t\"a \"\"b\"\"\tc\"\n";
    assert_corpus_loads("a.tsv", tabs, corpus_csv_options("title", NULL), "one, \"two\"|a \"b\"\tc");
    assert_corpus_loads("a.TAB.gz", tabs, corpus_csv_options("title", "id"), "1=one, \"two\"|2=a \"b\"\tc");
    assert_corpus_loads("a.csv", tabs, corpus_csv_options("title", NULL), "one, \"two\"|a \"b\"\tc");
    assert_corpus_loads("a.csv", "a\tb,c\nd,e\n", corpus_csv_options("2", NULL), "c|e"); /* a comma in the first row */
    assert_corpus_loads("a.tsv", "a\tb,c\nd\te\n", corpus_csv_options("2", NULL), "b,c|e");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_csv_chooses_columns_by_name),
        cmocka_unit_test(test_corpus_csv_chooses_columns_by_number),
        cmocka_unit_test(test_corpus_csv_header_can_be_forced),
        cmocka_unit_test(test_corpus_csv_mixes_names_and_numbers),
        cmocka_unit_test(test_corpus_csv_keeps_each_label_once),
        cmocka_unit_test(test_corpus_csv_lists_the_columns_there_are),
        cmocka_unit_test(test_corpus_csv_short_row_names_line_and_columns),
        cmocka_unit_test(test_corpus_csv_refuses_senseless_columns),
        cmocka_unit_test(test_corpus_csv_unclosed_quote_names_its_line),
        cmocka_unit_test(test_corpus_tables_may_be_separated_by_tabs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
