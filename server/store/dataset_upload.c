/* The uploading half of server/store/datasets.h. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "model/text/corpus_decode.h"
#include "server/store/datasets_internal.h"
#include "server/store/state_dir.h"

#define ALPHABET_SHOWN 256 /* characters of the alphabet that the description lists */

struct dataset_upload {
    struct datasets *datasets;
    struct arena arena; /* owns name and options */
    const char *name;
    struct corpus_options options;
    struct corpus_decoder *decoder; /* NULL: bytes are kept as they are */
    struct sha256_stream *sha256;
    bool begun, replaced;
    struct directory_publish publish; /* once begun */
    struct publish_file file;
    uint64_t size; /* bytes of decoded text, as all numbers below */
    /* The check of UTF-8. */
    uint64_t checked, line;    /* bytes before the tail; lines in them */
    char tail[UTF8_MAX_BYTES]; /* the unfinished character at the end of the last piece */
    size_t tail_size;
};

/* ---- Life ---- */

static bool upload_copy_text(struct dataset_upload *upload, const char **text, struct error *err)
{
    if (*text) *text = arena_copy_text(&upload->arena, *text, strlen(*text), err);
    return *text;
}

static bool upload_copy_options(struct dataset_upload *upload, const struct corpus_options *options, struct error *err)
{
    struct corpus_options *copy = &upload->options;
    *copy = *options;
    return (!copy->columns || upload_copy_text(upload, &copy->columns, err)) &&
           (!copy->label_column || upload_copy_text(upload, &copy->label_column, err)) &&
           (!copy->field || upload_copy_text(upload, &copy->field, err));
}

static bool upload_write_text(void *context, const char *data, size_t size, struct error *err);

static bool upload_open_decoder(struct dataset_upload *upload, struct error *err)
{
    const struct corpus_decoder_options options = {.name = upload->name,
                                                   .most = upload->options.most_unpacked ? upload->options.most_unpacked
                                                                                         : CORPUS_MAX_UNPACKED,
                                                   .write = upload_write_text,
                                                   .context = upload};
    if (upload->options.bytes) return true;
    upload->decoder = corpus_decoder_new(&options, err);
    return upload->decoder;
}

struct dataset_upload *dataset_upload_new(struct datasets *datasets, const char *name,
                                          const struct corpus_options *options, struct error *err)
{
    if (!state_name_check(name, strlen(name), "a dataset's name", err) || !datasets_check_free(datasets, name, err))
        return NULL;
    struct dataset_upload *upload = calloc(1, sizeof *upload);
    if (!upload) {
        error_set_no_memory(err, sizeof *upload, "an upload");
        return NULL;
    }
    upload->datasets = datasets;
    upload->name = name;
    upload->line = 1;
    upload->file.fd = -1;
    if (upload_copy_text(upload, &upload->name, err) && upload_copy_options(upload, options, err) &&
        upload_open_decoder(upload, err) && (upload->sha256 = sha256_stream_new(err)))
        return upload;
    dataset_upload_free(upload);
    return NULL;
}

void dataset_upload_free(struct dataset_upload *upload)
{
    if (!upload) return;
    publish_file_close(&upload->file);
    directory_publish_abort(&upload->publish); /* does nothing after a commit */
    sha256_stream_free(upload->sha256);
    corpus_decoder_free(upload->decoder);
    arena_free(&upload->arena);
    free(upload);
}

bool dataset_upload_replaced(const struct dataset_upload *upload)
{
    return upload->replaced;
}

const char *dataset_upload_name(const struct dataset_upload *upload)
{
    return upload->name;
}

/* ---- Writing ---- */

/* Makes the directory aside and the file in it. It waits for the disk, so the first piece calls it, not
 * dataset_upload_new(). */
static bool upload_begin(struct dataset_upload *upload, struct error *err)
{
    if (upload->begun) return true;
    char *path = datasets_path(upload->datasets, upload->name, err);
    upload->begun = path && state_dir_check_file(path, err) && directory_publish_begin(&upload->publish, path, err) &&
                    publish_file_open(&upload->file, &upload->publish, DATASET_DATA, err);
    free(path);
    return upload->begun;
}

static bool upload_refuse_byte(const struct dataset_upload *upload, unsigned char byte, uint64_t offset,
                               struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "%s:%llu: not UTF-8 at byte offset %llu (byte %02x): " CORPUS_CONVERT
                     ", or upload it with ?bytes=true",
                     upload->name, (unsigned long long)upload->line, (unsigned long long)offset, (unsigned)byte);
}

static void upload_count_lines(struct dataset_upload *upload, const char *data, size_t n)
{
    for (const char *at = data, *end = data + n; (at = memchr(at, '\n', (size_t)(end - at))); at++) upload->line++;
}

static bool upload_refuse_nul(const struct dataset_upload *upload, const char *data, size_t n, struct error *err)
{
    const size_t at = (size_t)((const char *)memchr(data, '\0', n) - data);
    uint64_t line = upload->line;
    for (size_t i = 0; i < at; i++) line += data[i] == '\n';
    return error_set(err, ERROR_INVALID,
                     "%s:%llu: a NUL character at byte offset %llu: %s; ?bytes=true takes it as bytes", upload->name,
                     (unsigned long long)line, (unsigned long long)(upload->checked + at),
                     corpus_nul_advice(data, n, upload->checked));
}

/* Completes the unfinished character of the last piece. */
static bool upload_check_tail(struct dataset_upload *upload, const char **data, size_t *n, struct error *err)
{
    while (upload->tail_size > 0 && *n > 0) {
        upload->tail[upload->tail_size++] = *(*data)++;
        --*n;
        if (utf8_complete_prefix(upload->tail, upload->tail_size) == 0) continue;
        if (utf8_valid_prefix(upload->tail, upload->tail_size) < upload->tail_size)
            return upload_refuse_byte(upload, (unsigned char)upload->tail[0], upload->checked, err);
        upload->checked += upload->tail_size;
        upload->tail_size = 0;
    }
    return true;
}

static bool upload_check_utf8(struct dataset_upload *upload, const char *data, size_t n, struct error *err)
{
    if (!upload_check_tail(upload, &data, &n, err)) return false;
    const size_t whole = utf8_complete_prefix(data, n), valid = utf8_valid_prefix(data, whole);
    if (memchr(data, '\0', valid)) return upload_refuse_nul(upload, data, valid, err);
    upload_count_lines(upload, data, valid);
    if (valid < whole) return upload_refuse_byte(upload, (unsigned char)data[valid], upload->checked + valid, err);
    upload->checked += whole;
    if (n > whole) {
        upload->tail_size = n - whole;
        memcpy(upload->tail, data + whole, n - whole);
    }
    return true;
}

/* Checks and writes decoded text. */
static bool upload_write_text(void *context, const char *data, size_t size, struct error *err)
{
    struct dataset_upload *upload = context;
    if (!upload->options.bytes && !upload_check_utf8(upload, data, size, err)) return false;
    sha256_stream_add(upload->sha256, data, size);
    upload->size += size;
    return publish_file_write(&upload->file, data, size, err);
}

bool dataset_upload_write(struct dataset_upload *upload, const char *data, size_t size, struct error *err)
{
    if (!upload_begin(upload, err)) return false;
    return upload->decoder ? corpus_decoder_write(upload->decoder, data, size, err)
                           : upload_write_text(upload, data, size, err);
}

/* ---- Finishing ---- */

/* text NULL: the option was not given and is left out. */
static bool description_add_text(json_t *json, const char *key, const char *text)
{
    return !text || json_object_set_new(json, key, json_safe_string(text, strlen(text))) == 0;
}

static json_t *upload_describe(struct dataset_upload *upload, const struct corpus_summary *summary)
{
    const struct corpus_options *options = &upload->options;
    char alphabet[ALPHABET_SHOWN * UTF8_MAX_BYTES], sha256[SHA256_TEXT_SIZE], uploaded[CLOCK_UTC_SIZE];
    const size_t n = corpus_summary_alphabet(summary, ALPHABET_SHOWN, alphabet);
    sha256_stream_end(upload->sha256, sha256);
    clock_utc_text(uploaded);
    json_t *json =
        json_pack("{s:s, s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:o, s:s}", "name", upload->name, "size",
                  (json_int_t)upload->size, "sha256", sha256, "format", corpus_format_name(summary->format), "bytes",
                  (int)options->bytes, "documents", (json_int_t)summary->documents, "characters",
                  (json_int_t)summary->characters, "labels", (json_int_t)summary->labels, "alphabet_size",
                  (json_int_t)summary->alphabet, "alphabet", json_stringn_nocheck(alphabet, n), "uploaded", uploaded);
    const char *encoding = upload->decoder ? corpus_decoder_encoding(upload->decoder) : NULL;
    if (json && description_add_text(json, "encoding", encoding) &&
        description_add_text(json, "columns", options->columns) &&
        description_add_text(json, "label_column", options->label_column) &&
        description_add_text(json, "field", options->field) &&
        description_add_text(json, "csv_header",
                             options->csv_header < 0 ? NULL
                             : options->csv_header   ? "yes"
                                                     : "no"))
        return json;
    json_decref(json);
    return NULL;
}

static bool upload_write_description(struct dataset_upload *upload, const json_t *description, struct error *err)
{
    size_t size;
    char *text = json_text_print(description, JSON_INDENT(2), &size, err);
    if (!text) return false;
    const bool done = directory_publish_write(&upload->publish, DATASET_DESCRIPTION, text, size, err);
    free(text);
    return done;
}

/* Describes the written data: writes dataset.json, and makes the entry for the list. */
static struct dataset_entry *upload_summarise(struct dataset_upload *upload, struct error *err)
{
    struct corpus_summary summary = {0};
    json_t *description = NULL;
    char *path = path_join(upload->publish.aside, DATASET_DATA, err);
    if (path && corpus_summarise(&summary, upload->name, path, &upload->options, err)) {
        description = upload_describe(upload, &summary);
        if (!description) error_set_no_memory(err, 0, "a description");
    }
    corpus_summary_close(&summary);
    free(path);
    if (description && upload_write_description(upload, description, err))
        return dataset_entry_new(upload->datasets, upload->name, description, err);
    json_decref(description);
    return NULL;
}

bool dataset_upload_finish(struct dataset_upload *upload, struct error *err)
{
    if (!upload_begin(upload, err) || (upload->decoder && !corpus_decoder_end(upload->decoder, err))) return false;
    if (upload->tail_size > 0) {
        upload_refuse_byte(upload, (unsigned char)upload->tail[0], upload->checked, err);
        return error_add_context(err, "the file ends within a character");
    }
    if (!publish_file_sync(&upload->file, err)) return false;
    publish_file_close(&upload->file);
    struct dataset_entry *entry = upload_summarise(upload, err);
    if (!entry) return false;
    if (!datasets_reserve(upload->datasets, upload->name, &upload->replaced, err)) {
        dataset_entry_free(entry);
        return false;
    }
    const bool placed = directory_publish_commit(&upload->publish, err);
    datasets_settle(upload->datasets, upload->name, placed ? entry : NULL);
    if (!placed) dataset_entry_free(entry);
    return placed;
}
