/* Reads any bytes as a corpus. The first byte chooses format and options. The result is a refusal with a message, or
 * documents that have text and, except in byte mode, are valid UTF-8. */
#include "base/utf8.h"
#include "model/text/corpus.h"
#include "tests/fuzz/fuzz.h"

static const struct corpus_options variants[] = {
    {.format = CORPUS_TEXT, .csv_header = -1},
    {.format = CORPUS_LINES, .csv_header = -1},
    {.format = CORPUS_CSV, .columns = "title,description", .label_column = "label", .csv_header = -1},
    {.format = CORPUS_CSV, .columns = "2", .csv_header = 0},
    {.format = CORPUS_JSONL, .field = "text", .label_column = "label", .csv_header = -1},
    {.format = CORPUS_LINES, .csv_header = -1, .bytes = true},
    {.format = CORPUS_CSV, .columns = "1,2,3", .csv_header = 1, .bytes = true},
    {.format = CORPUS_TSV, .columns = "2", .label_column = "1"},
    {.format = CORPUS_JSONL, .field = "prompt,completion", .csv_header = -1},
    {.format = CORPUS_AUTO, .csv_header = -1},
};

/* A packed input may grow to this many bytes here. */
#define MOST_UNPACKED (1u << 20)

static void look_at(const struct corpus *corpus, bool bytes)
{
    size_t total = 0;
    REQUIRE(corpus->count > 0);
    for (size_t i = 0; i < corpus->count; i++) {
        const struct document *document = &corpus->documents[i];
        REQUIRE(document->n > 0);
        REQUIRE(!document->label || document->label[0] != '\0');
        REQUIRE(bytes || utf8_valid_prefix(document->text, document->n) == document->n);
        total += document->n;
    }
    REQUIRE(total == corpus->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct corpus_options options = variants[(data[0] - (unsigned)'0') % (sizeof variants / sizeof *variants)];
    options.most_unpacked = MOST_UNPACKED;
    struct error err = {0};
    struct corpus corpus;
    if (corpus_load_memory(&corpus, "input", (const char *)data + 1, size - 1, &options, &err))
        look_at(&corpus, options.bytes);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    corpus_close(&corpus);
    return 0;
}
