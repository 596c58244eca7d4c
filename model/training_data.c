#include "model/training_data.h"

#include <string.h>

#include "base/sha256.h"

/* Below this many characters of one running text a validation part would hold next to nothing. */
#define MINIMUM_SPLIT_CHARACTERS 20

static bool load_parts(struct training_data *data, const struct trainer_options *options,
                       const struct training_source *source, const struct corpus **train,
                       const struct corpus **validation, struct error *err)
{
    struct corpus_options format = trainer_corpus_options(options);
    format.stop = source->stop;
    format.directory = source->directory;
    format.name = source->name;
    if (!corpus_load(&data->corpus, options->data, &format, err)) return false;
    format.name = NULL;
    *train = &data->corpus;
    *validation = NULL;
    if (options->validation_data) {
        *validation = &data->second;
        return corpus_load(&data->second, options->validation_data, &format, err);
    }
    bool divisible =
        data->corpus.one_stream ? data->corpus.characters >= MINIMUM_SPLIT_CHARACTERS : data->corpus.count > 1;
    if (options->validation <= 0 || !divisible) return true;
    *train = &data->train;
    *validation = &data->held_out;
    return corpus_split(&data->corpus, options->validation, options->seed, &data->train, &data->held_out, err);
}

static bool digest(const struct corpus *file, char sha256[SHA256_TEXT_SIZE], struct error *err)
{
    struct sha256_stream *stream = sha256_stream_new(err);
    bool ok = stream != NULL;
    for (size_t at = 0, size; ok && at < file->map.size; at += size) {
        size = file->map.size - at < CORPUS_PIECE ? file->map.size - at : CORPUS_PIECE;
        sha256_stream_add(stream, file->map.data + at, size);
        ok = corpus_go_on(file, err);
    }
    if (ok) sha256_stream_end(stream, sha256);
    sha256_stream_free(stream);
    return ok;
}

static json_t *describe(const char *path, const struct corpus *file, const struct corpus *part,
                        const struct dataset *dataset, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char sha256[SHA256_TEXT_SIZE];
    if (!digest(file, sha256, err)) return NULL;
    return json_pack("{s:s%, s:I, s:s, s:I, s:I, s:I}", "name", slash ? slash + 1 : path,
                     strlen(slash ? slash + 1 : path), "bytes", (json_int_t)file->map.size, "sha256", sha256,
                     "documents", (json_int_t)part->count, "characters", (json_int_t)part->characters, "tokens",
                     (json_int_t)dataset->token_count);
}

static bool describe_all(struct training_data *data, const struct trainer_options *options, const struct corpus *train,
                         const struct corpus *validation, struct error *err)
{
    const char *path = options->validation_data ? options->validation_data : data->name;
    const struct corpus *file = options->validation_data ? &data->second : &data->corpus;
    data->description = json_object();
    if (json_object_set_new(data->description, "corpus",
                            describe(data->name, &data->corpus, train, &data->dataset, err)) == 0 &&
        json_object_set_new(data->description, "validation",
                            validation ? describe(path, file, validation, &data->validation, err) : json_null()) == 0)
        return true;
    return error_set(err, ERROR_INVALID, "%s: the file's name is not UTF-8", data->name);
}

static void close_corpora(struct training_data *data)
{
    corpus_close(&data->held_out);
    corpus_close(&data->train);
    corpus_close(&data->second);
    corpus_close(&data->corpus);
}

/* Every document of a dataset begins with <eos>, so a model that is trained on one learns to begin with it, whatever
 * it did where it comes from. */
static struct vocabulary *take_vocabulary(struct model *init)
{
    struct vocabulary *vocabulary = init->vocabulary;
    init->vocabulary = NULL;
    vocabulary_let_eos_start(vocabulary);
    return vocabulary;
}

bool training_data_open(struct training_data *data, const struct trainer_options *options,
                        const struct training_source *source, struct model *init, struct error *err)
{
    *data = (struct training_data){.name = source->name ? source->name : options->data};
    if (!options->data) return error_set(err, ERROR_INVALID, "data is not set: name a file to train on");
    const struct corpus *train, *validation;
    if (!load_parts(data, options, source, &train, &validation, err)) return false;
    const struct vocabulary_options vocabulary = trainer_vocabulary_options(options);
    data->vocabulary = init ? take_vocabulary(init) : vocabulary_build(train, &vocabulary, err);
    if (!data->vocabulary) return error_add_context(err, "%s", data->name);
    const char *directory = source->directory;
    if (!dataset_encode(&data->dataset, train, data->vocabulary, directory, &data->skipped_training, err))
        return error_add_context(err, "%s", data->name);
    data->has_validation = validation != NULL;
    if (validation && !dataset_encode(&data->validation, validation, data->vocabulary, directory, &data->skipped, err))
        return error_add_context(err, "%s", options->validation_data ? options->validation_data : data->name);
    if (!describe_all(data, options, train, validation, err)) return false;
    close_corpora(data);
    return true;
}

void training_data_close(struct training_data *data)
{
    json_decref(data->description);
    vocabulary_free(data->vocabulary);
    dataset_close(&data->validation);
    dataset_close(&data->dataset);
    close_corpora(data);
    *data = (struct training_data){0};
}

const json_t *training_data_describe(const struct training_data *data)
{
    return data->description;
}
