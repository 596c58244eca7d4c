/* Bytes of a file -> UTF-8, piece by piece: gzip is unpacked, and UTF-16 with a byte order mark is converted (also
 * within gzip). Anything else passes as it is; whether it is UTF-8 is for others to check.
 *
 * What comes out is handed to a function as it comes, so that memory stays small. It is bounded: a file that unpacks to
 * more than `most` bytes is refused as soon as that many have come, whatever it would grow to.
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
    uint64_t most;    /* bytes that may come out of a file that is decoded */
    bool (*write)(void *context, const char *data, size_t n, struct error *err);
    void *context;
};

struct corpus_decoder *corpus_decoder_new(const struct corpus_decoder_options *options, struct error *err);
void corpus_decoder_free(struct corpus_decoder *decoder); /* NULL allowed */

/* The next piece. Errors: ERROR_INVALID for what is damaged, ERROR_TOO_LARGE beyond `most`; those of write(). */
bool corpus_decoder_write(struct corpus_decoder *decoder, const char *data, size_t n, struct error *err);
/* The file is at its end. ERROR_INVALID where that is too early. */
bool corpus_decoder_end(struct corpus_decoder *decoder, struct error *err);

/* What was undone: "gzip", "utf-16", "gzip, utf-16", or NULL. */
const char *corpus_decoder_encoding(const struct corpus_decoder *decoder);

/* Whether a file that begins like this would be decoded. */
bool corpus_decode_wanted(const unsigned char *data, size_t n);

/* Errors where the first bytes are those of a file that holds text in a form that is not read here (ZIP, and so .docx;
 * PDF). */
bool corpus_refuse_foreign(const char *name, const unsigned char *data, size_t n, struct error *err);

/* What to do about a NUL character in text[0..n), of which `offset` bytes came before. */
const char *corpus_nul_advice(const char *text, size_t n, uint64_t offset);

/* What to do about bytes that are not UTF-8, in a message. */
#define CORPUS_CONVERT "convert the file (iconv -f CP1252 -t UTF-8, if it comes from Windows)"

#endif
