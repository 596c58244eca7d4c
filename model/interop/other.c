#include "model/interop/other.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define KERAS_INSTEAD "save the Keras model itself, model.save(\"model.keras\"), and import that"
#define TORCH_INSTEAD "save the PyTorch weights, torch.save(model.state_dict(), \"weights.pt\"), and import that"

#define PICKLE "a pickle, but not of torch.save(): " TORCH_INSTEAD

/* Files that begin with bytes of their own. */
static const struct mark {
    size_t at;
    const char *bytes;
    size_t size;
    const char *explanation;
} marks[] = {
#define MARK(at, bytes, explanation)                                                                                   \
    {                                                                                                                  \
        at, bytes, sizeof bytes - 1, explanation                                                                       \
    }
    MARK(
        0, "version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, which stands for the file in a clone that has not fetched it: run `git lfs pull` there, or "
        "download the file itself"),
    MARK(0, "GGUF",
         "a GGUF file, which holds a transformer of llama.cpp; recurrent networks of Keras and PyTorch are read"),
    MARK(4, "TFL3", "a TensorFlow Lite model, whose layers were taken apart: " KERAS_INSTEAD),
    MARK(0, "\x93NUMPY", "a NumPy array alone, and a model is several: " TORCH_INSTEAD),
    MARK(0, "\x1f\x8b", "packed with gzip: unpack it (gunzip, tar -xzf) and import the model in it"),
    MARK(0, "BZh", "packed with bzip2: unpack it and import the model in it"),
    MARK(0,
         "\xFD"
         "7zXZ",
         "packed with xz: unpack it and import the model in it"),
    MARK(0, "7z\xBC\xAF\x27\x1C", "packed with 7-Zip: unpack it and import the model in it"),
    MARK(0, "Rar!", "packed with RAR: unpack it and import the model in it"),
    MARK(0, "(dp", PICKLE),
    MARK(0, "}q", PICKLE),
    MARK(0, "ccopy_reg\n", PICKLE),
    MARK(0, "ccopyreg\n", PICKLE),
    MARK(257, "ustar", "a tar archive: unpack it (tar -xf) and import the model in it"),
#undef MARK
};

/* --- Protocol buffers, as far as their first fields tell them apart --- */

struct wire {
    const unsigned char *data;
    size_t at, size;
};

static bool take_varint(struct wire *wire, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 63 && wire->at < wire->size; shift += 7) {
        const unsigned char byte = wire->data[wire->at++];
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* Reads a field of bytes with this tag, within the message. *inside is a wire over it; the outer wire moves behind
 * it. */
static bool take_bytes(struct wire *wire, unsigned char tag, struct wire *inside)
{
    uint64_t n;
    if (wire->at >= wire->size || wire->data[wire->at++] != tag || !take_varint(wire, &n) || n > wire->size - wire->at)
        return false;
    *inside = (struct wire){wire->data + wire->at, 0, (size_t)n};
    wire->at += (size_t)n;
    return true;
}

static bool is_name(const struct wire *text)
{
    for (size_t i = 0; i < text->size; i++)
        if (text->data[i] < 0x20 || text->data[i] > 0x7E) return false;
    return text->size > 0;
}

/* Field 1 is a small number. Then SavedModel has all the rest in a field 2, which begins with a message; ONNX has the
 * name of its maker in a field 2, or comes to its graph (7) at once. */
static const char *explain_numbered(struct wire wire)
{
    uint64_t version;
    struct wire inside;
    if (wire.size < 4 || wire.data[wire.at++] != 0x08 || !take_varint(&wire, &version) || version == 0 || version > 99)
        return NULL;
    const unsigned char next = wire.at < wire.size ? wire.data[wire.at] : 0;
    if ((next != 0x12 && next != 0x3A) || !take_bytes(&wire, next, &inside) || inside.size == 0) return NULL;
    if (next == 0x3A || is_name(&inside))
        return "an ONNX model, which holds a graph of operations and no layers: " TORCH_INSTEAD
               ", or of a Keras model: model.save(\"model.keras\")";
    return inside.data[0] == 0x0A ? "a TensorFlow SavedModel, a graph whose weights lie in other files: " KERAS_INSTEAD
                                  : NULL;
}

/* GraphDef: nodes (1), each with a name (1) and an operation (2). */
static const char *explain_graph(struct wire wire)
{
    struct wire node, name, operation;
    if (!take_bytes(&wire, 0x0A, &node) || !take_bytes(&node, 0x0A, &name) || !take_bytes(&node, 0x12, &operation))
        return NULL;
    return is_name(&name) && is_name(&operation) ? "a frozen TensorFlow graph, which has no layers: " KERAS_INSTEAD
                                                 : NULL;
}

/* --- Texts --- */

static bool text_begins(const char *text, size_t size, const char *with)
{
    return size >= strlen(with) && strncasecmp(text, with, strlen(with)) == 0;
}

static bool text_contains(const char *text, size_t size, const char *part)
{
    return memmem(text, size, part, strlen(part));
}

static const char *explain_text(const char *text, size_t size)
{
    size_t start = 0;
    while (start < size && start < 64 && memchr(" \t\r\n", text[start], 4)) start++;
    text += start;
    size -= start;
    if (text_begins(text, size, "<!doctype html") || text_begins(text, size, "<html"))
        return "a web page: on sites that show files, download the file itself (\"raw\")";
    if (!text_begins(text, size, "{")) return NULL;
    if (text_contains(text, size, "\"class_name\"") && text_contains(text, size, "\"layers\""))
        return "the configuration of a Keras model without its weights: import the file of the weights, with this one "
               "as "
               "its architecture (--architecture FILE, or the part architecture of a form)";
    if (text_contains(text, size, "\"filename\"") && text_contains(text, size, "\"shape\""))
        return "the manifest of a deeplearn.js checkpoint (charRNN of ml5.js), which is not read; layers models of "
               "TensorFlow.js, Keras and PyTorch are";
    return "JSON, which holds no weights";
}

const char *interop_other_explain(const void *data, size_t size)
{
    if (size == 0) return NULL; /* and there may be no address */
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (size >= marks[i].at + marks[i].size &&
            memcmp((const char *)data + marks[i].at, marks[i].bytes, marks[i].size) == 0)
            return marks[i].explanation;
    const struct wire wire = {data, 0, size};
    const char *found = explain_numbered(wire);
    if (!found) found = explain_graph(wire);
    return found ? found : explain_text(data, size);
}
