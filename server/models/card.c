#include "server/models/card.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

static json_t *card_label_names(const struct vocabulary *vocabulary)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < vocabulary_label_count(vocabulary); i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (json_array_append_new(names, json_safe_string(name, n)) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

/* The labels; if the vocabulary was not read, they come from config.json. */
static json_t *card_labels(const struct model *model)
{
    if (model->vocabulary) return card_label_names(model->vocabulary);
    json_t *listed = json_object_get(model->config, "labels");
    return listed ? json_incref(listed) : json_array();
}

/* {size_bytes, modified_at}: the size of all files, and the time of the weights. A missing file has size 0 and time
 * 1970. */
static json_t *card_files(const char *directory)
{
    static const char *const names[] = {"config.json", "vocabulary.json", "model.safetensors"};
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_int_t bytes = 0;
    struct stat info = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (fd < 0 || fstatat(fd, names[i], &info, 0) != 0) info = (struct stat){0};
        bytes += info.st_size;
    }
    if (fd >= 0) close(fd);
    struct tm utc;
    char text[32] = "";
    if (gmtime_r(&info.st_mtim.tv_sec, &utc)) strftime(text, sizeof text, MODEL_CARD_TIME, &utc);
    return json_pack("{s:I, s:s}", "size_bytes", bytes, "modified_at", text);
}

/* Adds a member of "training" under its own name; null if "training" has none of that type. */
static bool card_add_origin(json_t *card, const json_t *training, const char *name, json_type type)
{
    json_t *value = json_object_get(training, name);
    const bool there = value && (json_typeof(value) == type || (type == JSON_REAL && json_is_number(value)));
    return json_object_set_new(card, name, there ? json_incref(value) : json_null()) == 0;
}

static bool card_add_origins(json_t *card, const json_t *training)
{
    if (!card_add_origin(card, training, "train_nats_per_character", JSON_REAL) ||
        !card_add_origin(card, training, "validation_nats_per_character", JSON_REAL) ||
        !card_add_origin(card, training, "dataset", JSON_STRING) ||
        !card_add_origin(card, training, "job", JSON_STRING))
        return false;
    json_t *corpus = json_object_get(json_object_get(training, "corpus"), "name");
    const bool by_job = json_object_get(training, "dataset"); /* JSON null: the text came with the request */
    return by_job || !json_is_string(corpus) || json_object_set(card, "dataset", corpus) == 0;
}

json_t *model_card(const struct model *model, const char *directory, struct error *err)
{
    json_t *details = model_describe(model, err);
    if (!details) return NULL;
    json_t *card = json_pack("{s:o}", "labels", card_labels(model)), *about = card_files(directory);
    const bool good = card && about && json_object_update_missing(card, details) == 0 &&
                      json_object_update(card, about) == 0 &&
                      card_add_origins(card, json_object_get(model->config, "training"));
    json_decref(details);
    json_decref(about);
    if (good) return card;
    json_decref(card);
    error_set_no_memory(err, 0, "the model's description");
    return NULL;
}
