/* A dataset: a corpus as token ids, its train/validation split, and the streams that training reads.
 *
 * Tokens of all documents lie in one array: <eos> d1 <eos> d2 <eos> ... <eos>. A label token follows the <eos> that
 * opens its document. The input at position i is tokens[i], the target is tokens[i + 1]: the <eos> between two
 * documents is the target that ends the first and the input that starts the second. The hidden state is reset exactly
 * where the input is <eos>, so the tokens need no flags. Imported models differ. Where <eos> only ends texts, the
 * tokens are the same, but evaluation feeds no <eos>. Without <eos> the tokens are the documents alone, d1 d2 ..., and
 * training is impossible. Either way a document's first token is no target.
 *
 * Streams: seed and epoch shuffle the documents (a one-stream corpus keeps its order), and the result is cut into B
 * contiguous streams of equal length, without padding. Fewer than B positions are left over; they are cut off at both
 * ends, in a proportion that differs from epoch to epoch. A window is T consecutive positions of all B streams. The
 * last window of an epoch may be shorter.
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
    struct tokens tokens; /* [token_count], starts and ends with <eos>; the dataset's own */
    size_t token_count;   /* targets = token_count - 1; without <eos>, one less per document */
    size_t *starts;       /* [document_count + 1] index of each document's opening <eos>; then of the closing <eos> */
    struct scratch start_list; /* memory of starts */
    bool lacks_eos;            /* starts are the documents' first tokens, then token_count */
    bool eos_only_ends;        /* <eos> is a target and no input */
    uint32_t pad;              /* the vocabulary's; TOKEN_NONE: none */
    size_t document_count;
    size_t characters;           /* characters (bytes in byte mode) without those skipped, for nats per character */
    struct skipped_text skipped; /* without labels */
    bool one_stream;
    uint32_t vocabulary_size;
    const char *directory;   /* for tokens that memory cannot hold; borrowed; NULL: none */
    const atomic_bool *stop; /* the corpus's */
};

/* Splits off the validation part, deterministically. Of a one-stream corpus it is the last `fraction` of the
 * characters. Of documents, the seed chooses some, which keep their order; where fraction > 0 each side gets at least
 * one, and a corpus of one document is ERROR_INVALID. The outputs borrow from `corpus`: close them with corpus_close()
 * before it, also after a failure. fraction 0 gives an empty validation corpus. */
bool corpus_split(const struct corpus *corpus, double fraction, uint64_t seed, struct corpus *train,
                  struct corpus *validation, struct error *err);

/* Joins the documents of several corpora, one after the other. The result borrows from them, as in corpus_split(). */
bool corpus_join(const struct corpus *const *parts, size_t count, struct corpus *joined, struct error *err);

/* Builds a vocabulary from the documents and labels of a corpus. Errors: ERROR_INVALID where fewer than 2 distinct
 * tokens (besides <eos>) occur. */
struct vocabulary *vocabulary_build(const struct corpus *corpus, const struct vocabulary_options *options,
                                    struct error *err);

/* Encodes a corpus. It skips text and labels that the vocabulary lacks, and counts them in *skipped (NULL allowed).
 * Every tenth document (index % 10 == 9) stays without its label, so that the model can also continue unlabelled text.
 * `directory` (NULL: none; borrowed while the dataset lives) takes what is too large for memory (base/scratch.h). Close
 * with dataset_close(), also after a failure. */
bool dataset_encode(struct dataset *dataset, const struct corpus *corpus, const struct vocabulary *vocabulary,
                    const char *directory, size_t *skipped, struct error *err);
void dataset_close(struct dataset *dataset);

/* The B streams of one epoch. */
struct streams {
    const struct dataset *dataset; /* borrowed */
    const struct tokens
        *tokens; /* stream b's inputs are tokens[first + b * length ..); the target after the last one follows */
    size_t first;
    size_t batch;           /* B */
    size_t length;          /* positions per stream */
    struct tokens shuffled; /* the tokens in shuffled order; empty: tokens points to the dataset's */
    struct scratch order;   /* size_t[document_count], for the shuffle; empty: nothing to shuffle */
};

/* If the dataset has fewer targets than B, B becomes their number (streams->batch). Errors: ERROR_INVALID if there is
 * no target, or no <eos>. Close with streams_close(), also after a failure. */
bool streams_open(struct streams *streams, const struct dataset *dataset, size_t batch, uint64_t seed, uint64_t epoch,
                  struct error *err);
/* Arranges the streams for another epoch. The same seed and epoch always give the same tokens. After a stop the streams
 * are unfinished; do not train on them. */
void streams_start_epoch(struct streams *streams, uint64_t seed, uint64_t epoch);
/* inputs, targets: [T][B] with T = min(window, length - position). Returns T; 0: the epoch is over. */
size_t streams_window(const struct streams *streams, size_t position, size_t window, uint32_t *inputs,
                      uint32_t *targets);
void streams_close(struct streams *streams);

#endif
