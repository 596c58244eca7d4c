/* The formats of a corpus: their names, the format that a file name tells, the options that a format can use. */
#include <string.h>
#include <strings.h>

#include "base/scratch.h"
#include "model/text/corpus.h"

const char *const corpus_format_choices[] = {
    [CORPUS_AUTO] = "auto",   [CORPUS_TEXT] = "text", [CORPUS_LINES] = "lines", [CORPUS_CSV] = "csv",
    [CORPUS_JSONL] = "jsonl", [CORPUS_TSV] = "tsv",   [CORPUS_TSV + 1] = NULL,
};

const char *corpus_format_name(enum corpus_format format)
{
    return corpus_format_choices[format];
}

bool corpus_format_parse(const char *name, enum corpus_format *format)
{
    for (size_t i = 0; corpus_format_choices[i]; i++) {
        if (strcmp(name, corpus_format_choices[i]) != 0) continue;
        *format = (enum corpus_format)i;
        return true;
    }
    return false;
}

static bool has_ending(const char *name, size_t n, const char *ending)
{
    const size_t m = strlen(ending);
    return n > m && strncasecmp(name + n - m, ending, m) == 0;
}

/* A name with an unknown ending is that of a text. */
enum corpus_format corpus_format_guess(const char *name)
{
    static const struct {
        const char *ending;
        enum corpus_format format;
    } endings[] = {{".csv", CORPUS_CSV},     {".tsv", CORPUS_TSV},      {".tab", CORPUS_TSV},
                   {".jsonl", CORPUS_JSONL}, {".ndjson", CORPUS_JSONL}, {".json", CORPUS_JSONL}};
    const char *slash = strrchr(name, '/');
    if (slash) name = slash + 1;
    size_t n = strlen(name);
    if (has_ending(name, n, ".gz")) n -= 3;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (has_ending(name, n, endings[i].ending)) return endings[i].format;
    return n > 1 && memchr(name + 1, '.', n - 1) ? CORPUS_TEXT : CORPUS_AUTO;
}

const char *corpus_options_misfit(const struct corpus_options *options, enum corpus_format format, const char **needs)
{
    const bool table = format == CORPUS_CSV || format == CORPUS_TSV;
    const bool json = format == CORPUS_JSONL || format == CORPUS_AUTO;
    *needs = "csv or tsv";
    if (options->columns && !table) return "columns";
    if (options->csv_header == 1 && !table) return "csv_header";
    *needs = "jsonl";
    if (options->field && !json) return "field";
    *needs = "csv, tsv or jsonl";
    return options->label_column && !table && !json ? "label_column" : NULL;
}

/* ---- memory on the disk ---- */

static uint64_t bytes_on_disk(uint64_t bytes)
{
    return bytes > SCRATCH_IN_MEMORY ? bytes : 0;
}

uint64_t corpus_disk_bytes(enum corpus_format format, uint64_t size, uint64_t documents, uint64_t tokens)
{
    const bool copied = format != CORPUS_TEXT && format != CORPUS_LINES;
    return bytes_on_disk(copied ? size : 0) + bytes_on_disk(documents * sizeof(struct document)) +
           bytes_on_disk(documents * sizeof(size_t)) + bytes_on_disk(tokens);
}
