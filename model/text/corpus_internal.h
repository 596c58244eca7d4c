/* What the files corpus*.c share: a corpus while it is being loaded. Nobody else includes this.
 *
 * corpus_load.c is on top and calls the readers (lines, csv, jsonl). They call corpus.c, which keeps each document, or
 * has corpus_summary.c count it. No call goes upwards.
 */
#ifndef LSTMD_MODEL_TEXT_CORPUS_INTERNAL_H
#define LSTMD_MODEL_TEXT_CORPUS_INTERNAL_H

#include "base/string_table.h"
#include "model/text/corpus.h"

struct corpus_loader {
    struct corpus *corpus;
    const struct corpus_options *options;
    const char *name; /* of the file, for messages */
    const char *text; /* decoded, after a byte order mark */
    size_t n;
    char newline; /* the last character of a line: '\n', or '\r' in a file without any '\n' */
    char *room;   /* the free part of the newest block of copied text */
    size_t room_left;
    char *block; /* that block */
    size_t block_size;
    const char *at;                  /* the reader is here and does not go back; documents may point here and later */
    struct corpus_summary *summary;  /* counts the documents, which are not kept; NULL: they are kept */
    size_t released;                 /* bytes of the map whose pages were given back */
    struct string_table label_names; /* each label is kept once, in the corpus's arena */
    const char **labels;             /* [label_capacity] by index in label_names */
    size_t label_capacity;
};

/* ---- corpus.c ---- */

/* n bytes that live as long as the corpus. */
char *corpus_room(struct corpus_loader *loader, size_t n, struct error *err);

/* *label: the corpus's own copy; NULL for an empty label, which is none. */
bool corpus_label(struct corpus_loader *loader, const char *text, size_t n, const char **label, struct error *err);

/* Adds a document, unless it is empty; text is borrowed. */
bool corpus_add(struct corpus_loader *loader, const char *text, size_t n, const char *label, struct error *err);

/* How many documents were added, kept or not. */
size_t corpus_count_added(const struct corpus_loader *loader);

/* Names for a message, as "a", "b" and 3 more: whole characters, no controls, a few names at most. */
struct corpus_names {
    char text[320];
    size_t used, left_out;
};
void corpus_names_add(struct corpus_names *names, const char *name, size_t n);
const char *corpus_names_end(struct corpus_names *names);

/* ---- corpus_summary.c ---- */

/* Close with corpus_summary_close(), also after a failure. */
bool corpus_summary_open(struct corpus_summary *summary, struct error *err);
/* Counts a document, and forgets the text that was copied for it. */
void corpus_summary_add(struct corpus_loader *loader, const char *text, size_t n);
/* Sets what is known after the last document. */
void corpus_summary_finish(const struct corpus_loader *loader);

/* ---- corpus_lines.c ---- */

/* What ends the lines of a text: '\r' in files of old Macintoshes, which spreadsheets still write, else '\n'. */
char corpus_newline(const char *text, size_t n);

/* The length of the line that begins at `at`, without its end. *next is where the next line begins. */
size_t corpus_line(const struct corpus_loader *loader, const char *at, const char **next);

/* ---- readers: each reads loader->text and adds its documents ---- */

bool corpus_read_lines(struct corpus_loader *loader, struct error *err);
bool corpus_read_csv(struct corpus_loader *loader, struct error *err);
bool corpus_read_jsonl(struct corpus_loader *loader, struct error *err);

/* Whether a text is JSON lines or an array, for files whose names do not tell. */
bool corpus_looks_like_json(const char *text, size_t n);

#endif
