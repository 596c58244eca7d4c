#include "cli/state_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static struct state_owner owner_of(const struct loaded *loaded)
{
    struct state_owner owner = {.model = loaded->model.name,
                                .stepper = &loaded->stepper,
                                .vocabulary_size = vocabulary_size(loaded->model.vocabulary)};
    network_digest(&loaded->model.network, owner.weights);
    return owner;
}

bool state_file_is_possible(const struct loaded *loaded, struct error *err)
{
    const unsigned window = loaded->stepper.architecture.window.size;
    return window == 0 || error_set(err, ERROR_INVALID,
                                    "this model keeps no state: it sees the last %u tokens; give the text so far "
                                    "as prompt",
                                    window);
}

/* The limit is generous: a state of a larger model must be read, too, so that the message can name that model. */
#define MOST_BYTES(owner) (4 * state_text_size(owner) + ((size_t)1 << 20))

bool state_file_read(const char *path, const struct loaded *loaded, struct carried_state *carried, struct error *err)
{
    char *text = NULL;
    size_t size = 0;
    *carried = (struct carried_state){.pending = TOKEN_NONE};
    if (!state_file_is_possible(loaded, err)) return false;
    const struct state_owner owner = owner_of(loaded);
    carried->state = calloc(loaded->stepper.state_size, sizeof *carried->state);
    if (!carried->state) return error_set_no_memory(err, loaded->stepper.state_size * sizeof(float), "a hidden state");
    if (!file_read(path, MOST_BYTES(&owner), &text, &size, err)) return false;
    if (size > 0 && text[size - 1] == '\n') size--;
    const bool read = state_text_read(&owner, text, size, carried, err) || error_add_context(err, "%s", path);
    free(text);
    return read;
}

bool state_file_write(const char *path, const struct loaded *loaded, const struct carried_state *carried,
                      struct error *err)
{
    const struct state_owner owner = owner_of(loaded);
    char *text = malloc(state_text_size(&owner) + 2);
    if (!text) return error_set_no_memory(err, state_text_size(&owner) + 2, "a hidden state");
    const size_t n = state_text_write(&owner, carried, text, err);
    if (n > 0) text[n] = '\n';
    const bool written = n > 0 && file_publish(path, text, n + 1, err);
    free(text);
    return written;
}
