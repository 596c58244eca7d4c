#include "model/train/training_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/utf8.h"

/* What the functions that read the data of a run share. */
struct training_reading {
    const struct trainer_options *options;
    const struct training_source *source;
    struct model *init; /* NULL, or gives its vocabulary */
    /* parts of the corpus; validation: NULL where there is none */
    const struct corpus *train, *validation;
};

static bool set_name(struct training_data *data, const struct trainer_options *options,
                     const struct training_source *source, struct error *err)
{
    const char *file = source->text ? "text" : options->data, *first = source->name ? source->name : file;
    const size_t more = source->text ? 0 : options->more_count;
    const int n = more > 0 ? asprintf(&data->name, "%s and %zu more", first, more) : asprintf(&data->name, "%s", first);
    if (n >= 0) return true;
    data->name = NULL;
    return error_set_no_memory(err, strlen(first), "a name");
}

/* Snapshots hold paths, and config.json holds names of files, both in UTF-8. */
static bool check_path(const char *path, struct error *err)
{
    const size_t n = path ? strlen(path) : 0;
    return utf8_valid_prefix(path, n) == n || error_set(err, ERROR_INVALID, "%s: this path is not UTF-8", path);
}

static bool check_paths(const struct trainer_options *options, struct error *err)
{
    bool good = check_path(options->data, err) && check_path(options->validation_data, err) &&
                check_path(options->init_from, err);
    for (size_t i = 0; good && i < options->more_count; i++) good = check_path(options->more_data[i], err);
    return good;
}

static bool load_parts(struct training_data *data, struct training_reading *reading, struct error *err)
{
    const struct trainer_options *options = reading->options;
    const bool split = !options->validation_data && options->validation > 0;
    if (!check_paths(options, err) || !set_name(data, options, reading->source, err) ||
        !training_files_open(&data->files, options, reading->source, data->name, split, err))
        return false;
    reading->train = data->files.train;
    reading->validation = data->files.held_out;
    if (!options->validation_data) return true;
    struct corpus_options format = trainer_corpus_options(options);
    format.stop = reading->source->stop;
    format.directory = reading->source->directory;
    reading->validation = &data->second;
    return corpus_load(&data->second, options->validation_data, &format, err);
}

/* Adds what was counted of a part to the description of its files. */
static json_t *describe_part(json_t *file, const struct corpus *part, const struct dataset *dataset)
{
    if (json_object_set_new(file, "documents", json_integer((json_int_t)part->count)) == 0 &&
        json_object_set_new(file, "characters", json_integer((json_int_t)part->characters)) == 0 &&
        json_object_set_new(file, "tokens", json_integer((json_int_t)dataset->token_count)) == 0)
        return file;
    json_decref(file);
    return NULL;
}

/* The vocabulary of another model. That model may have changed when the run is resumed. */
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

static json_t *describe_validation(const struct training_data *data, const struct training_reading *reading,
                                   struct error *err)
{
    const char *path = reading->options->validation_data;
    if (!reading->validation) return json_null();
    json_t *file = path ? training_file_describe(path, &data->second, err) : training_files_describe(&data->files, err);
    return describe_part(file, reading->validation, &data->validation);
}

static bool describe_all(struct training_data *data, const struct training_reading *reading, struct error *err)
{
    data->description = json_object();
    json_t *corpus = describe_part(training_files_describe(&data->files, err), reading->train, &data->dataset);
    if (json_object_set_new(data->description, "corpus", corpus) == 0 &&
        json_object_set_new(data->description, "validation", describe_validation(data, reading, err)) == 0)
        return true;
    return error_set_no_memory(err, 0, "a description");
}

static void close_corpora(struct training_data *data)
{
    corpus_close(&data->second);
    training_files_close(&data->files);
}

/* Every document of a dataset begins with <eos>. A model that is trained on one learns to begin with it, whatever it
 * did before. */
static struct vocabulary *take_vocabulary(struct model *init)
{
    struct vocabulary *vocabulary = init->vocabulary;
    init->vocabulary = NULL;
    vocabulary_let_eos_start(vocabulary);
    return vocabulary;
}

static bool refuse_unknown(const struct training_data *data, const char *name, const char *whose, struct error *err)
{
    const bool words = vocabulary_level(data->vocabulary) == TOKEN_LEVEL_WORD;
    return error_set(err, ERROR_INVALID, "%s: none of its %s is in the vocabulary of %s", name,
                     words ? "words" : "characters", whose);
}

static bool encode_training(struct training_data *data, const struct training_reading *reading, struct error *err)
{
    if (!dataset_encode(&data->dataset, reading->train, data->vocabulary, reading->source->directory,
                        &data->skipped_training, err))
        return error_add_context(err, "%s", data->name);
    return !reading->init || data->dataset.characters > 0 || refuse_unknown(data, data->name, "the model", err);
}

static bool encode_validation(struct training_data *data, const struct training_reading *reading, struct error *err)
{
    const char *path = reading->options->validation_data;
    return dataset_encode(&data->validation, reading->validation, data->vocabulary, reading->source->directory,
                          &data->skipped, err) ||
           error_add_context(err, "%s", path ? path : data->name);
}

/* Vocabulary and tokens of the parts. */
static bool encode_parts(struct training_data *data, const struct training_reading *reading, struct error *err)
{
    const struct vocabulary_options options = trainer_vocabulary_options(reading->options);
    if (!data->vocabulary)
        data->vocabulary =
            reading->init ? take_vocabulary(reading->init) : vocabulary_build(reading->train, &options, err);
    if (!data->vocabulary) return error_add_context(err, "%s", data->name);
    if (!encode_training(data, reading, err)) return false;
    data->has_validation = reading->validation;
    return !data->has_validation || encode_validation(data, reading, err);
}

/* A validation part may hold nothing that the vocabulary knows. Then the run trains on the whole corpus. A validation
 * file that holds nothing of it is a mistake. */
static bool check_validation(struct training_data *data, struct training_reading *reading, struct error *err)
{
    const char *path = reading->options->validation_data;
    if (!data->has_validation || data->validation.characters > 0) return true;
    if (path) return refuse_unknown(data, path, reading->init ? "the model" : data->name, err);
    dataset_close(&data->validation);
    dataset_close(&data->dataset);
    if (!reading->init) {
        vocabulary_free(data->vocabulary);
        data->vocabulary = NULL;
    }
    data->unknown_part = true;
    data->skipped = 0;
    reading->train = data->files.whole;
    reading->validation = NULL;
    return encode_parts(data, reading, err);
}

static void keep_header(struct training_data *data)
{
    for (size_t i = 0; i < data->files.count && !*data->header; i++)
        if (data->files.list[i].corpus.header)
            snprintf(data->header, sizeof data->header, "%s", data->files.list[i].corpus.header);
}

bool training_data_open(struct training_data *data, const struct trainer_options *options,
                        const struct training_source *source, struct model *init, struct error *err)
{
    *data = (struct training_data){0};
    if (!options->data && !source->text)
        return error_set(err, ERROR_INVALID, "data is not set: name a file to train on");
    struct training_reading reading = {.options = options, .source = source, .init = init};
    if (!load_parts(data, &reading, err) || !encode_parts(data, &reading, err) ||
        !check_validation(data, &reading, err) || !describe_all(data, &reading, err) ||
        (init && !describe_vocabulary(data, err)))
        return false;
    keep_header(data);
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
    free(data->name);
    *data = (struct training_data){0};
}

const json_t *training_data_describe(const struct training_data *data)
{
    return data->description;
}

static bool same_lists(const json_t *a, const json_t *b)
{
    bool same = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; same && i < json_array_size(a); i++)
        same = training_data_same(json_array_get(a, i), json_array_get(b, i));
    return same;
}

bool training_data_same(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    if (json_is_array(a) && json_is_array(b)) return same_lists(a, b);
    if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b);
    if (json_object_size(a) != json_object_size(b)) return false;
    json_object_foreach((json_t *)a, key, value)
    {
        if (strcmp(key, "name") != 0 && !training_data_same(value, json_object_get(b, key))) return false;
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
