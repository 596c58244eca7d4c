/* A corpus: a file's documents as text, before tokens.
 *
 * Formats: "text" (the whole file is one document), "lines" (one document per line, empty lines skipped, CR LF
 * accepted), "csv" (RFC 4180, LF accepted: chosen columns joined by a newline, optional label column), "jsonl" (one
 * JSON object per line, one string field, optional label field). Documents without text are skipped; an empty label is
 * none. Text must be strict UTF-8 unless `bytes`; errors say file:line and byte offset. A UTF-8 byte order mark at the
 * start is skipped (kept in byte mode). U+0000 is a character like any other. Documents point into a read-only map of
 * the file where they can (text, lines, csv fields without doubled quotes) and into a copy otherwise.
 */
#ifndef LSTMD_MODEL_CORPUS_H
#define LSTMD_MODEL_CORPUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "base/scratch.h"

enum corpus_format { CORPUS_AUTO, CORPUS_TEXT, CORPUS_LINES, CORPUS_CSV, CORPUS_JSONL };

#define CORPUS_MAX_COLUMNS 16

struct corpus_options {
    enum corpus_format format; /* AUTO: by the name's ending: .csv, .jsonl/.ndjson; else text */
    const char *columns;       /* csv: "title,description" (first row is a header) or "2,3" (1-based, no header) */
    const char *label_column;  /* csv: name or 1-based number; jsonl: field; NULL: none */
    const char *field;         /* jsonl: the text's field; NULL: "text" */
    int csv_header;            /* -1: a header exactly if a column is given by name; 0: none; 1: first row skipped */
    bool bytes;                /* byte mode: no UTF-8 check */
    const atomic_bool *stop;   /* NULL, or ERROR_CANCELLED soon after it becomes true */
    const char *directory;     /* for what is too large for memory (base/scratch.h); NULL: none */
    const char *name;          /* stands in messages instead of the path; NULL: the path does */
};

struct document {
    const char *text;
    size_t n;
    const char *label; /* NULL: none */
};

struct corpus {
    struct document *documents; /* the corpus's own, in `list` */
    size_t count;
    size_t bytes, characters; /* of all documents' text (characters = bytes in byte mode) */
    bool one_stream;          /* format text: one document that is one running text */
    const atomic_bool *stop;  /* as in its options, and so is directory */
    const char *directory;
    struct file_map map;
    struct scratch list, copies; /* copies: of text that does not stand in the map as it is; else it is in the arena */
    struct arena arena;
};

/* Errors: ERROR_NOT_FOUND, ERROR_IO; ERROR_INVALID for an empty corpus, invalid UTF-8, malformed CSV or JSON, a column
 * that is not there (with the names that are). Close with corpus_close(), also after a failure. */
bool corpus_load(struct corpus *corpus, const char *path, const struct corpus_options *options, struct error *err);

/* The same for text in memory (borrowed; it must outlive the corpus). `name` stands in messages. */
bool corpus_load_memory(struct corpus *corpus, const char *name, const char *text, size_t n,
                        const struct corpus_options *options, struct error *err);
void corpus_close(struct corpus *corpus);

/* Room for so many documents, for whoever makes a corpus of another one. */
bool corpus_reserve(struct corpus *corpus, size_t count, struct error *err);

/* For whoever reads a corpus, from piece to piece of a long text: false with ERROR_CANCELLED once it is to stop. */
bool corpus_go_on(const struct corpus *corpus, struct error *err);
#define CORPUS_PIECE ((size_t)1 << 20) /* bytes */

/* What a corpus consists of, without keeping it. */
struct corpus_summary {
    uint64_t documents, bytes, characters; /* as in struct corpus */
    uint32_t alphabet;                     /* distinct characters (in byte mode: bytes) */
    uint32_t labels;                       /* distinct ones */
    uint64_t *seen;                        /* bit c: the character (byte) c is there */
};

#define CORPUS_MAX_RECORD ((size_t)64 << 20) /* bytes of a document that must be copied to be read (csv, jsonl) */

/* Goes once through a file that is known to be UTF-8 (or is read in byte mode), and keeps neither text nor pages of it:
 * memory does not grow with the file. `name` stands in messages instead of the path. Errors as corpus_load(), and
 * ERROR_INVALID for a record beyond CORPUS_MAX_RECORD. Close with corpus_summary_close(), also after a failure. */
bool corpus_summarise(struct corpus_summary *summary, const char *name, const char *path,
                      const struct corpus_options *options, struct error *err);
void corpus_summary_close(struct corpus_summary *summary);

/* The first `most` characters by code point, as UTF-8 (a byte as the character with its value); `out` has room for
 * UTF8_MAX_BYTES * most bytes. Returns bytes. */
size_t corpus_summary_alphabet(const struct corpus_summary *summary, size_t most, char *out);

/* What AUTO takes a file of this name for: by its ending, else CORPUS_TEXT. */
enum corpus_format corpus_format_guess(const char *name);

const char *corpus_format_name(enum corpus_format format);
bool corpus_format_parse(const char *name, enum corpus_format *format); /* "auto", "text", "lines", "csv", "jsonl" */

#endif
