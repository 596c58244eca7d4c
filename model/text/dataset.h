/* A dataset: a corpus as token ids, its train/validation split, and the streams that training reads.
 *
 * Tokens of all documents lie in one array: <eos> d1 <eos> d2 <eos> ... <eos>; a document's label token, if any,
 * follows its opening <eos>. Input at position i is tokens[i], target is tokens[i + 1]: the <eos> between two documents
 * is the target that ends the first and the input that starts the second. The hidden state is reset exactly where the
 * input is <eos>, so no flag is kept beside the tokens. Imported models differ: a vocabulary whose <eos> only ends
 * texts gives the same tokens, but evaluation feeds none of the <eos>; one without <eos> gives the documents alone, d1
 * d2 ..., and there is nothing to train on. Either way a document's first token is no target.
 *
 * Streams: an epoch's documents (in an order shuffled by seed and epoch; a one-stream corpus keeps its order) are cut
 * into B contiguous streams of equal length; nothing is padded. The fewer than B positions left over are taken from the
 * two ends, in a proportion that differs from epoch to epoch. A window is T consecutive positions of all B streams, the
 * last one of an epoch may be shorter.
 */
#ifndef LSTMD_MODEL_TEXT_DATASET_H
#define LSTMD_MODEL_TEXT_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/text/corpus.h"
#include "model/text/skipped_text.h"
#include "model/text/tokens.h"
#include "model/text/vocabulary.h"

struct dataset {
    struct tokens tokens; /* [token_count], starts and ends with <eos>; the dataset's own, as is starts */
    size_t token_count;   /* predictions (targets) = token_count - 1; without <eos>, one less per document */
    size_t *starts;       /* [document_count + 1] index of each document's opening <eos>; then of the closing <eos> */
    struct scratch start_list; /* where they are */
    bool lacks_eos;            /* starts are those of the documents' first tokens, then token_count */
    bool eos_only_ends;        /* <eos> is a target and no input */
    uint32_t pad;              /* the vocabulary's; TOKEN_NONE: none */
    size_t document_count;
    size_t characters; /* code points (bytes in byte mode) of the text less those skipped, for nats per character */
    struct skipped_text skipped; /* labels aside */
    bool one_stream;
    uint32_t vocabulary_size;
    const char *directory;   /* where tokens go that are many; borrowed, NULL for none */
    const atomic_bool *stop; /* the corpus's */
};

/* Splits off the validation part, deterministically: of a one-stream corpus the last `fraction` of its characters, of
 * documents a choice by seed, in their order (at least one stays on each side where fraction > 0; ERROR_INVALID where
 * there is only one). The outputs are corpora that borrow from `corpus`, closed with corpus_close() before it, also
 * after a failure. fraction 0 gives an empty validation corpus. */
bool corpus_split(const struct corpus *corpus, double fraction, uint64_t seed, struct corpus *train,
                  struct corpus *validation, struct error *err);

/* The documents of several corpora, one after the other; borrows from them as corpus_split() does. */
bool corpus_join(const struct corpus *const *parts, size_t count, struct corpus *joined, struct error *err);

/* Builds a vocabulary from the documents and labels of a corpus. Errors: ERROR_INVALID where fewer than 2 distinct
 * tokens (besides <eos>) occur. */
struct vocabulary *vocabulary_build(const struct corpus *corpus, const struct vocabulary_options *options,
                                    struct error *err);

/* Encodes a corpus. Text (and labels) that the vocabulary lacks is skipped and counted in *skipped (NULL allowed).
 * Every tenth document (index % 10 == 9) goes without its label, so that the model can also continue unlabelled text.
 * directory (NULL: none; borrowed for the dataset's life): for what is too large for memory (base/scratch.h). Close
 * with dataset_close(), also after a failure. */
bool dataset_encode(struct dataset *dataset, const struct corpus *corpus, const struct vocabulary *vocabulary,
                    const char *directory, size_t *skipped, struct error *err);
void dataset_close(struct dataset *dataset);

/* The B streams of one epoch. */
struct streams {
    const struct dataset *dataset; /* borrowed */
    const struct tokens *tokens;   /* stream b's inputs are tokens[first + b * length ..); the last target follows */
    size_t first;
    size_t batch;           /* B */
    size_t length;          /* positions per stream */
    struct tokens shuffled; /* what tokens points to, or empty: it points to those of the dataset */
    struct scratch order;   /* size_t[document_count], for the shuffle; or empty */
};

/* B shrinks to the number of targets where the dataset is smaller than that; the caller sees it in streams->batch.
 * Errors: ERROR_INVALID where there is no target at all, or no <eos>. Close with streams_close(), also after a failure.
 */
bool streams_open(struct streams *streams, const struct dataset *dataset, size_t batch, uint64_t seed, uint64_t epoch,
                  struct error *err);
/* Rearranges the same streams for another epoch; the same (seed, epoch) always gives the same tokens. Where it was
 * stopped, they are none to train on. */
void streams_start_epoch(struct streams *streams, uint64_t seed, uint64_t epoch);
/* inputs, targets: [T][B] with T = min(window, length - position); returns T (0: the epoch is over). */
size_t streams_window(const struct streams *streams, size_t position, size_t window, uint32_t *inputs,
                      uint32_t *targets);
void streams_close(struct streams *streams);

#endif
