/* Loads and compares corpora, for the tests of their formats. */
#ifndef LSTMD_TESTS_UNIT_TEXT_CORPUS_SUPPORT_H
#define LSTMD_TESTS_UNIT_TEXT_CORPUS_SUPPORT_H

#include "model/text/corpus.h"

extern const struct corpus_options corpus_automatic; /* all defaults */
struct corpus_options corpus_lines_options(void);
struct corpus_options corpus_csv_options(const char *columns, const char *label);
struct corpus_options corpus_jsonl_options(const char *field, const char *label);

/* A csv text of columns label, title, description. */
extern const char corpus_table[];

/* Loads a text. The summary of the same text in a file must say the same of it. */
struct corpus load_corpus_bytes(const char *name, const char *text, size_t n, struct corpus_options options);
struct corpus load_corpus(const char *name, const char *text, struct corpus_options options);

/* Summarises a text, from a file. */
bool summarise_corpus(struct corpus_summary *summary, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err);

void assert_corpus_document(const struct corpus *corpus, size_t i, const char *text, const char *label);

/* Loads a text and compares its documents, joined by "|"; labels stand before "=". */
void assert_corpus_loads(const char *name, const char *text, struct corpus_options options, const char *expected);

/* Neither loading nor summarising takes the text, and both say the same. */
void assert_corpus_bytes_refused(const char *name, const char *text, size_t n, struct corpus_options options,
                                 const char *expected);
void assert_corpus_refused(const char *name, const char *text, struct corpus_options options, const char *expected);

#endif
