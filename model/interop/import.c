#include "model/interop/import.h"

#include <string.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "model/interop/foreign.h"
#include "model/interop/keras.h"
#include "model/interop/other.h"
#include "model/interop/tfjs.h"
#include "model/interop/torch.h"
#include "model/interop/zip.h"

const struct interop_options interop_defaults = {0};

/* ---- which reader ---- */

/* An archive with config.json at its top is Keras's. The reader of PyTorch judges all others. */
static enum interop_kind recognise_archive(const void *data, size_t size)
{
    struct interop_zip *zip = interop_zip_open("", data, size, NULL);
    const bool keras = zip && interop_zip_has(zip, "config.json");
    interop_zip_close(zip);
    return keras ? INTEROP_KERAS : INTEROP_TORCH;
}

enum interop_kind interop_recognise(const void *data, size_t size)
{
    static const char hdf5[] = "\x89HDF\r\n\x1a\n", archive[] = "PK\x03\x04";
    const char *bytes = data;
    if (size >= sizeof hdf5 - 1 && memcmp(bytes, hdf5, sizeof hdf5 - 1) == 0) return INTEROP_KERAS;
    if (size >= sizeof archive - 1 && memcmp(bytes, archive, sizeof archive - 1) == 0)
        return recognise_archive(data, size);
    if (size > 8 && bytes[8] == '{') return INTEROP_TORCH;                                      /* safetensors */
    if (size > 2 && ((unsigned char)bytes[0] == 0x80 || bytes[0] == 'L')) return INTEROP_TORCH; /* a pickle */
    if (size > 2 && memchr("{ \t\r\n", bytes[0], 5) && memmem(data, size, "\"weightsManifest\"", 17))
        return INTEROP_TFJS;
    return INTEROP_UNKNOWN;
}

static bool refuse_unknown(const char *path, const void *data, size_t size, struct error *err)
{
    const char *other = interop_other_explain(data, size);
    if (size == 0) return error_set(err, ERROR_INVALID, "%s: the file is empty", path);
    if (other) return error_set(err, ERROR_INVALID, "%s: %s", path, other);
    return error_set(err, ERROR_INVALID,
                     "%s: not a model file that is read: Keras .h5 and .keras, PyTorch .pt and .pth, .safetensors",
                     path);
}

static bool recognise_file(const char *path, enum interop_kind *kind, struct error *err)
{
    struct file_map map;
    if (!file_map_open(&map, path, err)) return false;
    *kind = interop_recognise(map.data, map.size);
    const bool known = *kind != INTEROP_UNKNOWN || refuse_unknown(path, map.data, map.size, err);
    file_map_close(&map);
    return known;
}

static bool read_file(const char *path, struct foreign *foreign, struct error *err)
{
    enum interop_kind kind;
    if (!recognise_file(path, &kind, err)) return false;
    if (kind != INTEROP_TFJS && foreign->weights_file)
        return error_set(err, ERROR_INVALID, "%s: weights are given beside the model.json of TensorFlow.js alone",
                         path);
    if (kind == INTEROP_KERAS) return interop_keras_read(path, foreign, err);
    if (foreign->architecture_file)
        return error_set(err, ERROR_INVALID, "%s: an architecture belongs to the weights of Keras, not to %s", path,
                         kind == INTEROP_TFJS ? "a model.json" : "PyTorch's");
    if (kind == INTEROP_TFJS) return interop_tfjs_read(path, foreign, err);
    return interop_torch_read(path, foreign, err);
}

/* ---- what the options add ---- */

static bool set_activation(struct foreign *foreign, enum activation activation, struct error *err)
{
    struct architecture *a = &foreign->network.architecture;
    if (activation == ACTIVATION_DEFAULT) return true;
    if (cell_table[a->cell].gated)
        return error_set(err, ERROR_INVALID, "the activation can be chosen for nn.RNN alone; this is %s",
                         cell_name(a->cell));
    a->activation = activation;
    return true;
}

static bool set_window(struct foreign *foreign, uint32_t window, struct error *err)
{
    struct architecture *a = &foreign->network.architecture;
    if (window > NETWORK_MAX_WINDOW)
        return error_set(err, ERROR_INVALID, "a window is at most %u tokens", NETWORK_MAX_WINDOW);
    a->window.size = window;
    a->window.masked = window > 0 && foreign->pad;
    if (window > 0 || foreign->window == 0) return true;
    return foreign_note(foreign, err,
                        "It was trained on windows of %u tokens. It is served with its state carried on; --window %u "
                        "shows it %u tokens at a time as in training.",
                        foreign->window, foreign->window, foreign->window);
}

static struct vocabulary *find_vocabulary(const struct foreign *foreign, const struct interop_options *options,
                                          const char *path, struct error *err)
{
    const struct interop_wanted wanted = {.size = foreign->network.architecture.vocabulary_size,
                                          .pad = foreign->pad,
                                          .level = options->level,
                                          .notes = foreign->notes};
    if (options->vocabulary && options->vocabulary_text)
        error_set(err, ERROR_INVALID, "a vocabulary comes from a file or from a text, not from both");
    else if (options->vocabulary)
        return interop_vocabulary_from_file(options->vocabulary, &wanted, err);
    else if (options->vocabulary_text)
        return interop_vocabulary_from_text(options->vocabulary_text, options->order, options->lower, &wanted, err);
    else if (foreign->tokens)
        return interop_vocabulary_from_json(foreign->tokens, &wanted, path, err);
    else
        error_set(err, ERROR_INVALID,
                  "%s: the file holds no vocabulary of its %u tokens: give it (--vocabulary FILE, or the part "
                  "vocabulary of a "
                  "form), or the text that the model was trained on (--vocabulary-from-text FILE, or the part "
                  "vocabulary_from_text)",
                  path, wanted.size);
    return NULL;
}

/* The object for config.json's "training". */
static json_t *describe_origin(const struct foreign *foreign, const char *name)
{
    return json_pack("{s:{s:s, s:s, s:O}}", "imported", "file", name, "format", foreign->format, "notes",
                     foreign->notes);
}

static bool save_model(struct foreign *foreign, const struct interop_options *options, const char *path,
                       const char *name, const char *directory, struct error *err)
{
    if (!set_activation(foreign, options->rnn_activation, err) || !set_window(foreign, options->window, err))
        return false;
    if (!foreign->notes && !(foreign->notes = json_array()))
        return error_set(err, ERROR_NO_MEMORY, "out of memory for the notes on an imported model");
    struct vocabulary *vocabulary = find_vocabulary(foreign, options, path, err);
    json_t *training = vocabulary ? describe_origin(foreign, name) : NULL;
    bool ok = training;
    if (vocabulary && !training) error_set(err, ERROR_NO_MEMORY, "out of memory for the origin of a model");
    ok = ok && checkpoint_save(directory, &foreign->network, vocabulary, training, NULL, err);
    json_decref(training);
    vocabulary_free(vocabulary);
    return ok;
}

bool interop_import(const char *path, const char *name, const struct interop_options *options, const char *directory,
                    json_t **notes, struct error *err)
{
    struct foreign foreign = {.architecture_file = options->architecture,
                              .weights_file = options->weights,
                              .scaled_ids = options->scaled_ids};
    const bool ok = read_file(path, &foreign, err) && save_model(&foreign, options, path, name, directory, err);
    if (ok && notes) *notes = json_incref(foreign.notes);
    foreign_close(&foreign);
    return ok;
}
