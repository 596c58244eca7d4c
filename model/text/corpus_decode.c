#include "model/text/corpus_decode.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/utf8.h"

#define PIECE      ((size_t)64 << 10) /* bytes that are unpacked at once */
#define NUL_WINDOW ((size_t)4096)     /* bytes that tell whether a text is UTF-16 */
#define HEAD       4                  /* bytes that tell what a file is */
#define GZIP_ONLY  (15 + 16)          /* zlib's largest window, and gzip's header alone */

enum kind {
    KIND_UNKNOWN, /* too few bytes so far */
    KIND_PLAIN,   /* nothing to decode */
    KIND_GZIP,    /* packed with gzip */
    KIND_UTF16LE, /* with a byte order mark */
    KIND_UTF16BE, /* the same with the high byte first */
};

/* The first bytes of a stream: they tell what it is. */
struct head {
    unsigned char bytes[HEAD];
    size_t n;
};

struct corpus_decoder {
    struct corpus_decoder_options options;
    uint64_t written;
    enum kind outer, inner; /* of the file; of the unpacked data */
    struct head outer_head, inner_head;
    z_stream gzip;
    bool opened, member_ended; /* gzip: zlib has memory; nothing is open */
    unsigned char unpacked[PIECE];
    /* UTF-16 */
    uint64_t units;
    uint16_t high; /* the first half of a pair; 0: none */
    unsigned char odd;
    bool has_odd;
};

/* ---- what a stream is ---- */

static enum kind kind_of(const unsigned char *data, size_t n)
{
    if (n >= 2 && data[0] == 0x1F && data[1] == 0x8B) return KIND_GZIP;
    if (n >= 2 && data[0] == 0xFF && data[1] == 0xFE) return KIND_UTF16LE;
    if (n >= 2 && data[0] == 0xFE && data[1] == 0xFF) return KIND_UTF16BE;
    return KIND_PLAIN;
}

bool corpus_decode_wanted(const unsigned char *data, size_t n)
{
    return kind_of(data, n) != KIND_PLAIN;
}

const char *corpus_decoder_encoding(const struct corpus_decoder *decoder)
{
    const bool packed = decoder->outer == KIND_GZIP;
    const enum kind text = packed ? decoder->inner : decoder->outer;
    if (text == KIND_UTF16LE || text == KIND_UTF16BE) return packed ? "gzip, utf-16" : "utf-16";
    return packed ? "gzip" : NULL;
}

bool corpus_refuse_foreign(const char *name, const unsigned char *data, size_t n, struct error *err)
{
    if (n >= HEAD && memcmp(data, "PK\3\4", HEAD) == 0)
        return error_set(err, ERROR_INVALID,
                         "%s: the file is a ZIP archive, as .docx, .xlsx, .odt and .epub are: save it as plain text in "
                         "UTF-8, or unpack it",
                         name);
    if (n >= HEAD && memcmp(data, "%PDF", HEAD) == 0)
        return error_set(err, ERROR_INVALID, "%s: the file is a PDF: take its text out first (pdftotext -enc UTF-8)",
                         name);
    return true;
}

/* In UTF-16, each ASCII letter has a NUL beside it: after it in UTF-16LE, before it in UTF-16BE. */
const char *corpus_nul_advice(const char *text, size_t n, uint64_t offset)
{
    size_t nuls[2] = {0};
    if (n > NUL_WINDOW) n = NUL_WINDOW;
    for (size_t i = 0; i < n; i++) nuls[(offset + i) % 2] += text[i] == '\0';
    if (n >= 4 && nuls[1] > n / 4 && 4 * nuls[0] < nuls[1])
        return "the file looks like UTF-16: iconv -f UTF-16LE -t UTF-8 converts it";
    if (n >= 4 && nuls[0] > n / 4 && 4 * nuls[1] < nuls[0])
        return "the file looks like UTF-16: iconv -f UTF-16BE -t UTF-8 converts it";
    return "text has none: tr -d '\\000' takes them out";
}

/* ---- output ---- */

static bool emit_text(struct corpus_decoder *decoder, const char *data, size_t n, struct error *err)
{
    if (n == 0) return true;
    decoder->written += n;
    if (corpus_decoder_encoding(decoder) && decoder->written > decoder->options.most)
        return error_set(err, ERROR_TOO_LARGE, "%s: unpacked, the file has more than %llu bytes, the most that is read",
                         decoder->options.name, (unsigned long long)decoder->options.most);
    return decoder->options.write(decoder->options.context, data, n, err);
}

/* ---- UTF-16 ---- */

/* Takes a unit and writes the character that it completes. Returns bytes; *valid is false for half a pair. */
static size_t take_unit(struct corpus_decoder *decoder, uint16_t unit, char out[UTF8_MAX_BYTES], bool *valid)
{
    const bool low = unit >= 0xDC00 && unit <= 0xDFFF, high = unit >= 0xD800 && unit <= 0xDBFF;
    uint32_t code = unit;
    decoder->units++;
    *valid = low == (decoder->high != 0);
    if (!*valid) return 0;
    if (low) code = 0x10000 + ((uint32_t)(decoder->high - 0xD800) << 10) + (unit - 0xDC00u);
    decoder->high = high ? unit : 0;
    return high ? 0 : utf8_encode(code, out);
}

static bool refuse_half(const struct corpus_decoder *decoder, struct error *err)
{
    return error_set(err, ERROR_INVALID, "%s: not UTF-16: half of a pair at byte offset %llu", decoder->options.name,
                     (unsigned long long)(2 * decoder->units));
}

static bool convert_utf16(struct corpus_decoder *decoder, enum kind kind, const unsigned char *data, size_t n,
                          struct error *err)
{
    char out[4096];
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        bool valid;
        if (!decoder->has_odd) {
            decoder->odd = data[i];
            decoder->has_odd = true;
            continue;
        }
        decoder->has_odd = false;
        const unsigned first = decoder->odd, second = data[i];
        const uint16_t unit = (uint16_t)(kind == KIND_UTF16LE ? second << 8 | first : first << 8 | second);
        used += take_unit(decoder, unit, out + used, &valid);
        if (!valid) return refuse_half(decoder, err);
        if (used + UTF8_MAX_BYTES <= sizeof out) continue;
        if (!emit_text(decoder, out, used, err)) return false;
        used = 0;
    }
    return emit_text(decoder, out, used, err);
}

/* Takes text that is not packed, or that was unpacked. */
static bool take_text(struct corpus_decoder *decoder, enum kind kind, const unsigned char *data, size_t n,
                      struct error *err)
{
    if (kind == KIND_UTF16LE || kind == KIND_UTF16BE) return convert_utf16(decoder, kind, data, n, err);
    return emit_text(decoder, (const char *)data, n, err);
}

/* Sets what the first bytes tell. *skip: bytes of the mark of UTF-16, which is not text. */
static bool settle_kind(struct corpus_decoder *decoder, const struct head *head, enum kind *kind, size_t *skip,
                        struct error *err)
{
    static const unsigned char little[HEAD] = {0xFF, 0xFE, 0, 0}, big[HEAD] = {0, 0, 0xFE, 0xFF};
    *kind = kind_of(head->bytes, head->n);
    *skip = *kind == KIND_UTF16LE || *kind == KIND_UTF16BE ? 2 : 0;
    decoder->units = *skip / 2;
    if (head->n == HEAD && (memcmp(head->bytes, little, HEAD) == 0 || memcmp(head->bytes, big, HEAD) == 0))
        return error_set(err, ERROR_INVALID, "%s: the file is UTF-32: convert it to UTF-8", decoder->options.name);
    return corpus_refuse_foreign(decoder->options.name, head->bytes, head->n, err);
}

/* Adds to the head; true once it is full, or `last` says that nothing follows. */
static bool fill_head(struct head *head, const unsigned char **data, size_t *n, bool last)
{
    while (head->n<HEAD && * n> 0) {
        head->bytes[head->n++] = *(*data)++;
        --*n;
    }
    return head->n == HEAD || last;
}

static bool take_unpacked(struct corpus_decoder *decoder, const unsigned char *data, size_t n, bool last,
                          struct error *err)
{
    size_t skip;
    if (decoder->inner == KIND_UNKNOWN) {
        const struct head *head = &decoder->inner_head;
        if (!fill_head(&decoder->inner_head, &data, &n, last)) return true;
        if (!settle_kind(decoder, head, &decoder->inner, &skip, err)) return false;
        if (decoder->inner == KIND_GZIP)
            return error_set(err, ERROR_INVALID, "%s: the file is packed twice: unpack it once", decoder->options.name);
        if (!take_text(decoder, decoder->inner, head->bytes + skip, head->n - skip, err)) return false;
    }
    return take_text(decoder, decoder->inner, data, n, err);
}

/* ---- gzip ---- */

static bool refuse_gzip(const struct corpus_decoder *decoder, int code, struct error *err)
{
    if (code == Z_MEM_ERROR) return error_set_no_memory(err, PIECE, "unpacking");
    return error_set(err, ERROR_INVALID, "%s: the gzip file is damaged: %s", decoder->options.name,
                     decoder->gzip.msg ? decoder->gzip.msg : "what stands behind its end is no gzip");
}

/* A file may hold several parts, one behind the other. */
static bool begin_member(struct corpus_decoder *decoder, struct error *err)
{
    const int code =
        decoder->opened ? inflateReset2(&decoder->gzip, GZIP_ONLY) : inflateInit2(&decoder->gzip, GZIP_ONLY);
    decoder->opened |= code == Z_OK;
    decoder->member_ended = false;
    return code == Z_OK || refuse_gzip(decoder, code, err);
}

static bool unpack_some(struct corpus_decoder *decoder, struct error *err)
{
    z_stream *gzip = &decoder->gzip;
    if (decoder->member_ended && !begin_member(decoder, err)) return false;
    gzip->next_out = decoder->unpacked;
    gzip->avail_out = PIECE;
    const int code = inflate(gzip, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return refuse_gzip(decoder, code, err);
    decoder->member_ended = code == Z_STREAM_END;
    return take_unpacked(decoder, decoder->unpacked, PIECE - gzip->avail_out, false, err);
}

static bool unpack_bytes(struct corpus_decoder *decoder, const unsigned char *data, size_t n, struct error *err)
{
    z_stream *gzip = &decoder->gzip;
    for (size_t size; n > 0; data += size, n -= size) {
        size = n < PIECE ? n : PIECE;
        gzip->next_in = (unsigned char *)(uintptr_t)data; /* zlib writes nothing there */
        gzip->avail_in = (unsigned)size;
        do
            if (!unpack_some(decoder, err)) return false;
        while (gzip->avail_in > 0 || (gzip->avail_out == 0 && !decoder->member_ended));
    }
    return true;
}

/* ---- all of it ---- */

struct corpus_decoder *corpus_decoder_new(const struct corpus_decoder_options *options, struct error *err)
{
    struct corpus_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        error_set_no_memory(err, sizeof *decoder, "a decoder");
        return NULL;
    }
    decoder->options = *options;
    decoder->member_ended = true;
    return decoder;
}

void corpus_decoder_free(struct corpus_decoder *decoder)
{
    if (!decoder) return;
    if (decoder->opened) inflateEnd(&decoder->gzip);
    free(decoder);
}

static bool take_bytes(struct corpus_decoder *decoder, const unsigned char *data, size_t n, struct error *err)
{
    if (decoder->outer == KIND_GZIP) return unpack_bytes(decoder, data, n, err);
    return take_text(decoder, decoder->outer, data, n, err);
}

static bool write_bytes(struct corpus_decoder *decoder, const unsigned char *data, size_t n, bool last,
                        struct error *err)
{
    size_t skip;
    if (decoder->outer == KIND_UNKNOWN) {
        const struct head *head = &decoder->outer_head;
        if (!fill_head(&decoder->outer_head, &data, &n, last)) return true;
        if (!settle_kind(decoder, head, &decoder->outer, &skip, err) ||
            !take_bytes(decoder, head->bytes + skip, head->n - skip, err))
            return false;
    }
    return take_bytes(decoder, data, n, err);
}

bool corpus_decoder_write(struct corpus_decoder *decoder, const char *data, size_t n, struct error *err)
{
    return write_bytes(decoder, (const unsigned char *)data, n, false, err);
}

bool corpus_decoder_end(struct corpus_decoder *decoder, struct error *err)
{
    if (!write_bytes(decoder, NULL, 0, true, err)) return false;
    if (decoder->outer == KIND_GZIP && !decoder->member_ended)
        return error_set(err, ERROR_INVALID, "%s: the gzip file ends too early", decoder->options.name);
    if (decoder->outer == KIND_GZIP && !take_unpacked(decoder, NULL, 0, true, err)) return false;
    if (!decoder->has_odd && !decoder->high) return true;
    return error_set(err, ERROR_INVALID, "%s: not UTF-16: the file ends within a character", decoder->options.name);
}
