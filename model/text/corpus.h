/* A corpus: a file's documents as text, before tokens.
 *
 * Formats: "text" (the whole file is one document), "lines" (a document per line, empty lines skipped), "csv" (RFC
 * 4180: chosen columns joined by a newline, optional label column; tabs separate where the first row has tabs and no
 * comma), "tsv" (the same, always with tabs), "jsonl" (a JSON object per line, or an array of objects or strings;
 * chosen string fields joined by a newline, optional label field). Lines end in LF, CR LF, or, in a file without LF, in
 * CR. Documents without text are skipped; an empty label is none. Gzip, and UTF-16 with a byte order mark, are decoded
 * first (corpus_decode.h). The text must be strict UTF-8 then, without NUL characters (they mean UTF-16 without a mark;
 * JSON may hold them as \u0000); errors say file:line and byte offset. A UTF-8 byte order mark at the start is skipped.
 * Byte mode takes all bytes as they are. Documents point into a read-only map of the file where possible (text, lines,
 * csv fields without doubled quotes), else into a copy.
 */
#ifndef LSTMD_MODEL_TEXT_CORPUS_H
#define LSTMD_MODEL_TEXT_CORPUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "base/scratch.h"

enum corpus_format {
    CORPUS_AUTO,  /* not known yet */
    CORPUS_TEXT,  /* one document */
    CORPUS_LINES, /* a document per line */
    CORPUS_CSV,   /* a document per row */
    CORPUS_JSONL, /* a document per object or string; also an array of those */
    CORPUS_TSV,   /* csv with tabs */
};

#define CORPUS_MAX_COLUMNS  16
#define CORPUS_MAX_UNPACKED ((uint64_t)16 << 30) /* bytes */

struct corpus_options {
    enum corpus_format format; /* AUTO: the ending of the name decides, else the content */
    const char *columns;       /* csv: "title,description" (the first row is a header) or "2,3" (from 1; no header) */
    const char *label_column;  /* csv: a name, or a number from 1; jsonl: a field; NULL: no labels */
    const char *field;         /* jsonl: the fields of the text, "prompt,completion"; NULL: "text" */
    int csv_header;            /* -1: a header where some column has a name; 0: none; 1: skip the first row */
    bool bytes;                /* byte mode: no decoding, no UTF-8 check */
    uint64_t most_unpacked;    /* most bytes that a packed file may unpack to; 0: CORPUS_MAX_UNPACKED */
    const atomic_bool *stop;   /* NULL, or loading fails with ERROR_CANCELLED soon after this becomes true */
    const char *directory;     /* for what is too large for memory (base/scratch.h); NULL: none */
    const char *name;          /* messages name the file so; NULL: by its path */
};

struct document {
    const char *text;
    size_t n;
    const char *label; /* NULL: none */
};

struct corpus {
    struct document *documents; /* the corpus's own, in `list` */
    size_t count;
    size_t bytes, characters;  /* of all documents' text (characters = bytes in byte mode) */
    bool one_stream;           /* format text: one document that is one running text */
    enum corpus_format format; /* as it was read: not AUTO */
    const atomic_bool *stop;   /* as in its options, and so is directory */
    const char *directory;
    const char *header; /* csv: the first row, where it counts as text but looks like a header; else NULL */
    struct file_map map;
    struct scratch decoded;      /* the decoded text; empty: the map's text needed no decoding */
    struct scratch list, copies; /* copies: of text that had to change, where it is large; else the arena holds it */
    struct arena arena;
};

/* Loads a file. Errors: ERROR_NOT_FOUND, ERROR_IO; ERROR_INVALID for an empty corpus, invalid UTF-8, malformed CSV or
 * JSON, a column that does not exist (the message lists those that do), options that the format cannot use;
 * ERROR_TOO_LARGE for a file that unpacks to too much. Close with corpus_close(), also after a failure. */
bool corpus_load(struct corpus *corpus, const char *path, const struct corpus_options *options, struct error *err);

/* The same for text in memory (borrowed; it must outlive the corpus). Messages call it `name`. */
bool corpus_load_memory(struct corpus *corpus, const char *name, const char *text, size_t n,
                        const struct corpus_options *options, struct error *err);
void corpus_close(struct corpus *corpus);

/* Makes room for `count` documents, for those who make a corpus of another one. */
bool corpus_reserve(struct corpus *corpus, size_t count, struct error *err);

/* Call this between two pieces of a long text: false with ERROR_CANCELLED once reading is to stop. */
bool corpus_go_on(const struct corpus *corpus, struct error *err);
#define CORPUS_PIECE ((size_t)1 << 20) /* bytes */

/* What a corpus consists of; the corpus itself is not kept. */
struct corpus_summary {
    uint64_t documents, bytes, characters; /* as in struct corpus */
    uint32_t alphabet;                     /* distinct characters (in byte mode: bytes) */
    uint32_t labels;                       /* distinct ones */
    enum corpus_format format;             /* as it was read: not AUTO */
    uint64_t *seen;                        /* bit c: the character (byte) c is there */
};

#define CORPUS_MAX_RECORD ((size_t)64 << 20) /* bytes of a document that reading must copy (csv, jsonl) */

/* Goes once through a file that is known to be UTF-8 without NUL and not packed (or that is read in byte mode). It
 * keeps neither text nor pages, so memory does not grow with the file. Messages call the file `name`. Errors: as
 * corpus_load(), and ERROR_INVALID for a record beyond CORPUS_MAX_RECORD. Close with corpus_summary_close(), also after
 * a failure. */
bool corpus_summarise(struct corpus_summary *summary, const char *name, const char *path,
                      const struct corpus_options *options, struct error *err);
void corpus_summary_close(struct corpus_summary *summary);

/* Writes the first `most` characters by code point as UTF-8 (a byte as the character with its value). `out` has room
 * for UTF8_MAX_BYTES * most bytes. Returns bytes. */
size_t corpus_summary_alphabet(const struct corpus_summary *summary, size_t most, char *out);

/* The format of a file with this name, by its ending (without .gz). CORPUS_AUTO: the name does not tell. Then the
 * reader looks at the content: jsonl if it begins like JSON lines or an array, else text. */
enum corpus_format corpus_format_guess(const char *name);

/* The key of the first option that this format would ignore, and the format that it needs; NULL: none. CORPUS_AUTO is
 * a format that the name does not tell; it is neither csv nor tsv. */
const char *corpus_options_misfit(const struct corpus_options *options, enum corpus_format format, const char **needs);

/* Bytes of the disk (base/scratch.h) that training on such a corpus takes at least; `tokens`: of the whole corpus. */
uint64_t corpus_disk_bytes(enum corpus_format format, uint64_t size, uint64_t documents, uint64_t tokens);

const char *corpus_format_name(enum corpus_format format);
bool corpus_format_parse(const char *name, enum corpus_format *format); /* "auto", "text", "lines", "csv", ... */
extern const char *const corpus_format_choices[];                       /* in the order of the enum; NULL at the end */

#endif
