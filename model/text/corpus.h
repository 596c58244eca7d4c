/* A corpus: a file's documents as text, before tokens.
 *
 * Formats: "text" (the whole file is one document), "lines" (one document per line, empty lines skipped), "csv" (RFC
 * 4180: chosen columns joined by a newline, optional label column; separated by tabs where the first row has tabs and
 * no comma), "tsv" (the same, always by tabs), "jsonl" (one JSON object per line, or an array of objects or strings;
 * chosen string fields joined by a newline, optional label field). Lines end in LF, CR LF, or, in a file without LF, in
 * CR. Documents without text are skipped; an empty label is none. A file that is packed with gzip, and UTF-16 with a
 * byte order mark, are decoded first (corpus_decode.h). Text must be strict UTF-8 then, without NUL characters (the
 * sign of UTF-16 without a mark; JSON may hold them as \u0000); errors say file:line and byte offset. A UTF-8 byte
 * order mark at the start is skipped. In byte mode all bytes are taken as they are. Documents point into a read-only
 * map of the file where they can (text, lines, csv fields without doubled quotes) and into a copy otherwise.
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

enum corpus_format { CORPUS_AUTO, CORPUS_TEXT, CORPUS_LINES, CORPUS_CSV, CORPUS_JSONL, CORPUS_TSV };

#define CORPUS_MAX_COLUMNS  16
#define CORPUS_MAX_UNPACKED ((uint64_t)16 << 30) /* bytes */

struct corpus_options {
    enum corpus_format format; /* AUTO: by the name's ending, else by what the file holds */
    const char *columns;       /* csv: "title,description" (first row is a header) or "2,3" (1-based, no header) */
    const char *label_column;  /* csv: name or 1-based number; jsonl: field; NULL: none */
    const char *field;         /* jsonl: the text's fields, "prompt,completion"; NULL: "text" */
    int csv_header;            /* -1: a header exactly if a column is given by name; 0: none; 1: first row skipped */
    bool bytes;                /* byte mode: no decoding, no UTF-8 check */
    uint64_t most_unpacked;    /* bytes that a packed file may unpack to; 0: CORPUS_MAX_UNPACKED */
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
    size_t bytes, characters;  /* of all documents' text (characters = bytes in byte mode) */
    bool one_stream;           /* format text: one document that is one running text */
    enum corpus_format format; /* as it was read: not AUTO */
    const atomic_bool *stop;   /* as in its options, and so is directory */
    const char *directory;
    const char *header; /* csv: the first row, where it is taken as text and looks like a header; or NULL */
    struct file_map map;
    struct scratch decoded;      /* the map's text, where it had to be decoded */
    struct scratch list, copies; /* copies: of text that does not stand there as it is; else it is in the arena */
    struct arena arena;
};

/* Errors: ERROR_NOT_FOUND, ERROR_IO; ERROR_INVALID for an empty corpus, invalid UTF-8, malformed CSV or JSON, a column
 * that is not there (with the names that are), options that the format cannot use; ERROR_TOO_LARGE for a file that
 * unpacks to too much. Close with corpus_close(), also after a failure. */
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
    enum corpus_format format;             /* as it was read: not AUTO */
    uint64_t *seen;                        /* bit c: the character (byte) c is there */
};

#define CORPUS_MAX_RECORD ((size_t)64 << 20) /* bytes of a document that must be copied to be read (csv, jsonl) */

/* Goes once through a file that is known to be UTF-8 without NUL and not packed (or is read in byte mode), and keeps
 * neither text nor pages of it: memory does not grow with the file. `name` stands in messages instead of the path.
 * Errors as corpus_load(), and ERROR_INVALID for a record beyond CORPUS_MAX_RECORD. Close with corpus_summary_close(),
 * also after a failure. */
bool corpus_summarise(struct corpus_summary *summary, const char *name, const char *path,
                      const struct corpus_options *options, struct error *err);
void corpus_summary_close(struct corpus_summary *summary);

/* The first `most` characters by code point, as UTF-8 (a byte as the character with its value); `out` has room for
 * UTF8_MAX_BYTES * most bytes. Returns bytes. */
size_t corpus_summary_alphabet(const struct corpus_summary *summary, size_t most, char *out);

/* What AUTO takes a file of this name for by its ending (.gz left out). CORPUS_AUTO: the name does not tell, and the
 * file is JSON lines or an array where it begins like one, else text. */
enum corpus_format corpus_format_guess(const char *name);

/* Options that mean nothing in a format, and would be ignored: the key of the first one, and what it needs; NULL where
 * there is none. CORPUS_AUTO: a format that the name does not tell, which is neither csv nor tsv. */
const char *corpus_options_misfit(const struct corpus_options *options, enum corpus_format format, const char **needs);

/* At least so many bytes of the disk are taken (base/scratch.h) while a corpus of this size is trained on, of which
 * `tokens` tokens are. */
uint64_t corpus_disk_bytes(enum corpus_format format, uint64_t size, uint64_t documents, uint64_t tokens);

const char *corpus_format_name(enum corpus_format format);
bool corpus_format_parse(const char *name, enum corpus_format *format); /* "auto", "text", "lines", "csv", ... */
extern const char *const corpus_format_choices[];                       /* in the order of the enum; NULL at the end */

#endif
