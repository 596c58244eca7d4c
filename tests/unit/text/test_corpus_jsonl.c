/* model/text/corpus_jsonl.c: JSON lines and arrays. */
#include "tests/unit/text/corpus_support.h"

#include "tests/unit/support.h"

/* ---- jsonl ---- */

static void test_corpus_jsonl_reads_a_field_and_a_label(void **state)
{
    (void)state;
    assert_corpus_loads("a.jsonl",
                        "{\"text\": \"a\\nb\", \"n\": [1]}\r\n\n  \n{\"text\": \"\"}\n{\"text\": \"\\u00e9\"}",
                        corpus_automatic, "a\nb|é");
    assert_corpus_loads("a.jsonl",
                        "{\"t\":\"x\",\"l\":\"one\"}\n{\"t\":\"y\",\"l\":-7}\n{\"t\":\"z\"}\n{\"t\":\"w\",\"l\":null}",
                        corpus_jsonl_options("t", "l"), "one=x|-7=y|z|w");
}

static void test_corpus_jsonl_errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"text\":\"x\"}\n{\"text\":}", "a.jsonl:2: not JSON: unexpected token near '}' (column 9)"},
        {"{\"text\":\"x\"} x", "a.jsonl:1: not JSON: end of file expected near 'x' (column 14)"},
        {"{\"text\":\"x\"", "a.jsonl:1: not JSON: '}' expected near end of file (column 11)"},
        {"{\"text\":\"x\"}\n[]", "a.jsonl:2: not a JSON object"},
        {"7", "a.jsonl:1: not a JSON object"},
        {"{\"body\":\"x\",\"id\":1}", "a.jsonl:1: no field \"text\"; the fields are \"body\", \"id\""},
        {"{}", "a.jsonl:1: no field \"text\"; the fields are none"},
        {"{\"text\":5}", "a.jsonl:1: field \"text\" is not a string"},
        {"{\"text\":null}", "a.jsonl:1: field \"text\" is not a string"},
        {"{\"text\":\"x\",\"l\":1.5}", "a.jsonl:1: field \"l\" is not a label: a string or an integer"},
        {"{\"text\":\"x\"}", "a.jsonl: no line has a label in a field \"l\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_corpus_refused("a.jsonl", cases[i].text, corpus_jsonl_options(NULL, "l"), cases[i].says);
}

/* ---- other forms of the same ---- */

static void test_corpus_jsonl_reads_an_array(void **state)
{
    (void)state;
    assert_corpus_loads("a.json", " [ {\"text\": \"a]\"} ,\n{\"text\":\"b\",\"l\":\"x\"}\n]\n ",
                        corpus_jsonl_options(NULL, "l"), "a]|x=b");
    assert_corpus_loads("a.jsonl", "[\"a\",\"\\u00e9, b\", \"\"]", corpus_automatic, "a|é, b");
    assert_corpus_refused("a.json", "[]", corpus_automatic, "a.json: the corpus has no text");
    assert_corpus_refused("a.json", "[\"a\"", corpus_automatic, "a.json:1: the JSON array is never closed");
    assert_corpus_refused("a.json", "[", corpus_automatic, "a.json:1: the JSON array is never closed");
    assert_corpus_refused("a.json", "[\"a\"\n\"b\"]", corpus_automatic, "a.json:2: the JSON array lacks a comma");
    assert_corpus_refused("a.json", "[\"a\"]\n\n x", corpus_automatic,
                          "a.json:3: the JSON array is followed by more text");
    assert_corpus_refused("a.json", "[\"a\",\n7]", corpus_automatic,
                          "a.json:2: the JSON array holds what is no object");
    assert_corpus_refused("a.json", "[\"a\"]", corpus_jsonl_options("t", NULL),
                          "a.json:1: the JSON array holds what is no object");
    assert_corpus_refused("a.json", "[{\"b\":1}]", corpus_automatic,
                          "a.json:1: no field \"text\"; the fields are \"b\"");
}

static void test_corpus_jsonl_joins_fields(void **state)
{
    (void)state;
    const char *text = "{\"p\":\"q\",\"c\":\"a\",\"p,c\":\"both\"}\n{\"p\":\"\",\"c\":\"\"}\n{\"c\":\"\",\"p\":\"x\"}";
    assert_corpus_loads("a.jsonl", text, corpus_jsonl_options("c,p", NULL), "a\nq|\nx");
    assert_corpus_loads("a.jsonl", "{\"p,c\":\"both\"}", corpus_jsonl_options("p,c", NULL),
                        "both"); /* a field of that name */
    assert_corpus_refused("a.jsonl", "{\"p\":\"\"}", corpus_jsonl_options("p,c", NULL),
                          "a.jsonl:1: no field \"c\"; the fields are \"p\"");
    assert_corpus_refused("a.jsonl", "{\"p\":1}", corpus_jsonl_options("p,c", NULL),
                          "a.jsonl:1: field \"p\" is not a string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_jsonl_reads_a_field_and_a_label),
        cmocka_unit_test(test_corpus_jsonl_errors_name_the_line),
        cmocka_unit_test(test_corpus_jsonl_reads_an_array),
        cmocka_unit_test(test_corpus_jsonl_joins_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
