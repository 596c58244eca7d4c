#include "model/training_data.h"

#include <stdlib.h>
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
    if (source->text ? !corpus_load_memory(&data->corpus, source->name, source->text, source->text_size, &format, err)
                     : !corpus_load(&data->corpus, options->data, &format, err))
        return false;
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

/* Of another model, which may have changed when a run is resumed. */
static bool describe_vocabulary(struct training_data *data, struct error *err)
{
    char sha256[SHA256_TEXT_SIZE];
    size_t n;
    char *text = vocabulary_to_json(data->vocabulary, &n, err);
    if (!text) return false;
    sha256_text(text, n, sha256);
    free(text);
    return json_object_set_new(data->description, "vocabulary", json_string(sha256)) == 0 ||
           error_set_no_memory(err, n, "a description");
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

static bool encode(const struct training_data *data, struct dataset *dataset, const struct corpus *part,
                   const char *name, const char *directory, size_t *skipped, struct error *err)
{
    return dataset_encode(dataset, part, data->vocabulary, directory, skipped, err) ||
           error_add_context(err, "%s", name);
}

static bool refuse_unknown(const struct training_data *data, const char *name, const char *whose, struct error *err)
{
    const bool words = vocabulary_level(data->vocabulary) == TOKEN_LEVEL_WORD;
    return error_set(err, ERROR_INVALID, "%s: none of its %s is in the vocabulary of %s", name,
                     words ? "words" : "characters", whose);
}

/* Vocabulary and tokens of the parts. */
static bool encode_parts(struct training_data *data, const struct trainer_options *options,
                         const struct training_source *source, struct model *init, const struct corpus *train,
                         const struct corpus *validation, struct error *err)
{
    const struct vocabulary_options vocabulary = trainer_vocabulary_options(options);
    const char *file = options->validation_data ? options->validation_data : data->name;
    if (!data->vocabulary) data->vocabulary = init ? take_vocabulary(init) : vocabulary_build(train, &vocabulary, err);
    if (!data->vocabulary) return error_add_context(err, "%s", data->name);
    if (!encode(data, &data->dataset, train, data->name, source->directory, &data->skipped_training, err)) return false;
    if (init && data->dataset.characters == 0) return refuse_unknown(data, data->name, "the model", err);
    data->has_validation = validation != NULL;
    return !validation || encode(data, &data->validation, validation, file, source->directory, &data->skipped, err);
}

/* A validation part that says nothing: the corpus is trained on as a whole. A file that does is a mistake. */
static bool check_validation(struct training_data *data, const struct trainer_options *options,
                             const struct training_source *source, struct model *init, const struct corpus **train,
                             const struct corpus **validation, struct error *err)
{
    if (!data->has_validation || data->validation.characters > 0) return true;
    if (options->validation_data)
        return refuse_unknown(data, options->validation_data, init ? "the model" : data->name, err);
    dataset_close(&data->validation);
    dataset_close(&data->dataset);
    if (!init) {
        vocabulary_free(data->vocabulary);
        data->vocabulary = NULL;
    }
    data->unknown_part = true;
    data->skipped = 0;
    *train = &data->corpus;
    *validation = NULL;
    return encode_parts(data, options, source, init, *train, NULL, err);
}

bool training_data_open(struct training_data *data, const struct trainer_options *options,
                        const struct training_source *source, struct model *init, struct error *err)
{
    *data = (struct training_data){.name = source->name ? source->name : options->data};
    if (!options->data && !source->text)
        return error_set(err, ERROR_INVALID, "data is not set: name a file to train on");
    const struct corpus *train, *validation;
    if (!load_parts(data, options, source, &train, &validation, err)) return false;
    if (!encode_parts(data, options, source, init, train, validation, err) ||
        !check_validation(data, options, source, init, &train, &validation, err) ||
        !describe_all(data, options, train, validation, err) || (init && !describe_vocabulary(data, err)))
        return false;
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

bool training_data_same(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b);
    if (json_object_size(a) != json_object_size(b)) return false;
    json_object_foreach((json_t *)a, key, value)
    {
        if (strcmp(key, "name") != 0 && !json_equal(value, json_object_get(b, key))) return false;
    }
    return true;
}

bool training_source_measure(const struct trainer_options *options, const struct training_source *source,
                             struct model *init, struct training_size *size, struct error *err)
{
    struct training_data data;
    const bool done = training_data_open(&data, options, source, init, err);
    if (done) *size = (struct training_size){vocabulary_size(data.vocabulary), data.dataset.token_count - 1};
    training_data_close(&data);
    return done;
}
