/* Bytes of a file -> UTF-8, piece by piece. The decoder unpacks gzip, and converts UTF-16 that has a byte order mark
 * (also within gzip). It passes all else unchanged and does not check that this is UTF-8.
 *
 * The decoder hands each piece of output to write(), so its memory stays small. It stops with an error as soon as a
 * file unpacks to more than `most` bytes.
 */
#ifndef LSTMD_MODEL_TEXT_CORPUS_DECODE_H
#define LSTMD_MODEL_TEXT_CORPUS_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct corpus_decoder;

struct corpus_decoder_options {
    const char *name; /* of the file, for messages; borrowed */
    uint64_t most;    /* bytes of output, of a file that is packed or UTF-16 */
    bool (*write)(void *context, const char *data, size_t n, struct error *err);
    void *context;
};

struct corpus_decoder *corpus_decoder_new(const struct corpus_decoder_options *options, struct error *err);
void corpus_decoder_free(struct corpus_decoder *decoder); /* NULL allowed */

/* Takes the next piece. Errors: ERROR_INVALID for damaged data, ERROR_TOO_LARGE beyond `most`; those of write(). */
bool corpus_decoder_write(struct corpus_decoder *decoder, const char *data, size_t n, struct error *err);
/* Ends the file. ERROR_INVALID where that is too early. */
bool corpus_decoder_end(struct corpus_decoder *decoder, struct error *err);

/* What the decoder undid: "gzip", "utf-16", "gzip, utf-16"; NULL: nothing. */
const char *corpus_decoder_encoding(const struct corpus_decoder *decoder);

/* Whether a file that begins with data[0..n) needs decoding. */
bool corpus_decode_wanted(const unsigned char *data, size_t n);

/* ERROR_INVALID where the first bytes are those of a ZIP archive (and so .docx) or a PDF, whose text nothing here
 * reads. */
bool corpus_refuse_foreign(const char *name, const unsigned char *data, size_t n, struct error *err);

/* Advice on a NUL character in text[0..n), which begins at byte `offset` of the file. */
const char *corpus_nul_advice(const char *text, size_t n, uint64_t offset);

/* Advice on bytes that are not UTF-8. */
#define CORPUS_CONVERT "convert the file (iconv -f CP1252 -t UTF-8, if it comes from Windows)"

#endif
