#include "model/train/training_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "model/text/dataset.h"

/* Below this many characters of one running text a validation part would hold next to nothing. */
#define MINIMUM_SPLIT_CHARACTERS 20

/* ---- loading ---- */

static bool load_files(struct training_files *files, const struct trainer_options *options,
                       const struct training_source *source, struct error *err)
{
    struct corpus_options format = trainer_corpus_options(options);
    format.stop = source->stop;
    format.directory = source->directory;
    if (source->text)
        return corpus_load_memory(&files->list[0].corpus, source->name, source->text, source->text_size, &format, err);
    for (size_t i = 0; i < files->count; i++) {
        format.name = i == 0 ? source->name : NULL;
        if (!corpus_load(&files->list[i].corpus, i == 0 ? options->data : options->more_data[i - 1], &format, err))
            return false;
    }
    return true;
}

static bool is_divisible(const struct corpus *corpus)
{
    return corpus->one_stream ? corpus->characters >= MINIMUM_SPLIT_CHARACTERS : corpus->count > 1;
}

static bool split_file(struct training_file *file, const struct trainer_options *options, struct error *err)
{
    const double fraction = is_divisible(&file->corpus) ? options->validation : 0;
    return corpus_split(&file->corpus, fraction, options->seed, &file->train, &file->held_out, err);
}

/* A single file's lists are those of the corpus. */
static bool use_one_file(struct training_files *files, const struct trainer_options *options, bool split,
                         struct error *err)
{
    struct training_file *file = &files->list[0];
    files->whole = files->train = &file->corpus;
    if (!split || !is_divisible(&file->corpus)) return true;
    files->train = &file->train;
    files->held_out = &file->held_out;
    return split_file(file, options, err);
}

static bool join_files(struct training_files *files, const struct trainer_options *options, bool split,
                       struct error *err)
{
    const struct corpus *whole[TRAINER_MAX_FILES], *train[TRAINER_MAX_FILES], *held_out[TRAINER_MAX_FILES];
    for (size_t i = 0; i < files->count; i++) {
        struct training_file *file = &files->list[i];
        whole[i] = &file->corpus;
        train[i] = &file->train;
        held_out[i] = &file->held_out;
        if (split && !split_file(file, options, err)) return false;
    }
    files->whole = files->train = &files->joined;
    if (!corpus_join(whole, files->count, &files->joined, err)) return false;
    if (!split) return true;
    if (!corpus_join(train, files->count, &files->joined_train, err) ||
        !corpus_join(held_out, files->count, &files->joined_held_out, err))
        return false;
    if (files->joined_held_out.count == 0) return true;
    files->train = &files->joined_train;
    files->held_out = &files->joined_held_out;
    return true;
}

bool training_files_open(struct training_files *files, const struct trainer_options *options,
                         const struct training_source *source, const char *name, bool split, struct error *err)
{
    const size_t count = source->text ? 1 : 1 + options->more_count;
    *files = (struct training_files){.list = calloc(count, sizeof *files->list), .count = count, .name = name};
    if (!files->list) return error_set_no_memory(err, count * sizeof *files->list, "the files of a corpus");
    for (size_t i = 0; i < count; i++)
        files->list[i].name = i > 0 ? options->more_data[i - 1] : source->name ? source->name : options->data;
    return load_files(files, options, source, err) &&
           (count == 1 ? use_one_file(files, options, split, err) : join_files(files, options, split, err));
}

void training_files_close(struct training_files *files)
{
    corpus_close(&files->joined_held_out);
    corpus_close(&files->joined_train);
    corpus_close(&files->joined);
    for (size_t i = 0; files->list && i < files->count; i++) {
        corpus_close(&files->list[i].held_out);
        corpus_close(&files->list[i].train);
        corpus_close(&files->list[i].corpus);
    }
    free(files->list);
    *files = (struct training_files){0};
}

/* ---- describing ---- */

static bool add_to_digest(struct sha256_stream *stream, const struct corpus *file, struct error *err)
{
    bool ok = true;
    for (size_t at = 0, size; ok && at < file->map.size; at += size) {
        size = file->map.size - at < CORPUS_PIECE ? file->map.size - at : CORPUS_PIECE;
        sha256_stream_add(stream, file->map.data + at, size);
        ok = corpus_go_on(file, err);
    }
    return ok;
}

static json_t *describe_bytes(const char *path, size_t bytes, struct sha256_stream *stream)
{
    const char *slash = strrchr(path, '/');
    char sha256[SHA256_TEXT_SIZE];
    sha256_stream_end(stream, sha256);
    return json_pack("{s:s, s:I, s:s}", "name", slash ? slash + 1 : path, "bytes", (json_int_t)bytes, "sha256", sha256);
}

json_t *training_file_describe(const char *path, const struct corpus *file, struct error *err)
{
    struct sha256_stream *stream = sha256_stream_new(err);
    json_t *json = stream && add_to_digest(stream, file, err) ? describe_bytes(path, file->map.size, stream) : NULL;
    sha256_stream_free(stream);
    return json;
}

static json_t *describe_each_file(const struct training_files *files, struct error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < files->count; i++) {
        const struct training_file *file = &files->list[i];
        if (json_array_append_new(list, training_file_describe(file->name, &file->corpus, err)) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *training_files_describe(const struct training_files *files, struct error *err)
{
    if (files->count == 1) return training_file_describe(files->name, &files->list[0].corpus, err);
    struct sha256_stream *stream = sha256_stream_new(err);
    bool ok = stream;
    size_t bytes = 0;
    for (size_t i = 0; ok && i < files->count; i++) {
        bytes += files->list[i].corpus.map.size;
        ok = add_to_digest(stream, &files->list[i].corpus, err);
    }
    json_t *json = ok ? describe_bytes(files->name, bytes, stream) : NULL;
    sha256_stream_free(stream);
    if (!json || json_object_set_new(json, "files", describe_each_file(files, err)) == 0) return json;
    json_decref(json);
    return NULL;
}
