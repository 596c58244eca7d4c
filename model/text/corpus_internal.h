/* What corpus*.c share: the corpus while it is being loaded. Nobody else includes this. */
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
    char newline; /* what ends a line: '\\n', or '\\r' in a file without it */
    char *room;   /* the free part of the newest block of copied text */
    size_t room_left;
    char *block; /* that block */
    size_t block_size;
    const char *at;                  /* what is before it is not read again (text points into it, if anywhere) */
    struct corpus_summary *summary;  /* documents are counted here and not kept; NULL: they are kept */
    size_t released;                 /* bytes of the map whose pages were given back */
    struct string_table label_names; /* each label is kept once, in the corpus's arena */
    const char **labels;             /* [label_capacity] by index in label_names */
    size_t label_capacity;
};

/* n bytes that live as long as the corpus. */
char *corpus_room(struct corpus_loader *loader, size_t n, struct error *err);

/* The corpus's own copy of a label; NULL for an empty one, which is none. */
bool corpus_label(struct corpus_loader *loader, const char *text, size_t n, const char **label, struct error *err);

/* Counts a document instead. */
bool corpus_summary_add(struct corpus_loader *loader, const char *text, size_t n);

/* Reads loader->text by its format. */
bool corpus_read(struct corpus_loader *loader, struct error *err);

/* The line from `at` on, without its end: its length. *next is where the one after it begins. */
size_t corpus_line(const struct corpus_loader *loader, const char *at, const char **next);

/* Names for a message, as "a", "b" and 3 more: whole characters, none of them a control, and not many. */
struct corpus_names {
    char text[320];
    size_t used, left_out;
};
void corpus_names_add(struct corpus_names *names, const char *name, size_t n);
const char *corpus_names_end(struct corpus_names *names);

/* Adds a document, unless it is empty; text is borrowed. */
bool corpus_add(struct corpus_loader *loader, const char *text, size_t n, const char *label, struct error *err);

bool corpus_read_csv(struct corpus_loader *loader, struct error *err);
/* Whether a text whose name says nothing is JSON lines or an array. */
bool corpus_looks_like_json(const char *text, size_t n);
bool corpus_read_jsonl(struct corpus_loader *loader, struct error *err);

#endif
