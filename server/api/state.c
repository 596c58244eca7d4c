/* /state: the hidden state after a text, for `state` of a later request. text_reader.c has the text read. */
#include <stddef.h>
#include <string.h>

#include "model/generate/answer.h"
#include "server/api/api.h"
#include "server/api/state_field.h"
#include "server/api/text_reader.h"

enum state_form {
    STATE_OPAQUE,  /* the last token waits: what goes on from it feeds that first, as one longer text does */
    STATE_NUMBERS, /* all tokens are fed */
};

static const char *const forms[] = {[STATE_OPAQUE] = "opaque", [STATE_NUMBERS] = "numbers", NULL};

struct state_request {
    struct text_reader reader; /* first */
    int form;                  /* enum state_form */
    size_t written;            /* layers, of numbers */
};

static const struct field rows[] = {
    SCORED_TEXT_ROWS(offsetof(struct state_request, reader.text)),
    SCORED_TEXT_IDS_ROW(offsetof(struct state_request, reader.text)),
    SCORED_TEXT_STATE_ROW(offsetof(struct state_request, reader.text)),
    {"as", FIELD_CHOICE, offsetof(struct state_request, form), 0, 0, forms, 0},
};

static bool state_open(struct text_reader *reader, struct problem *problem)
{
    const struct state_request *state = (struct state_request *)reader;
    struct scored_text *text = &reader->text;
    struct carried_state *carried = &text->carried;
    if (!scored_text_encode(text, reader->services, reader->served, problem) ||
        !scored_text_keep_state(text, reader->served, "model", problem))
        return false;
    const struct token_list *prompt = &text->generation.prompt;
    /* Numbers alone stay what they are: nothing is fed to them. */
    const bool feeds =
        text->text.size > 0 || json_array_size(text->ids) > 0 || !text->state || carried->pending != TOKEN_NONE;
    reader->wanted_from = prompt->count;
    reader->count = feeds ? prompt->count - (state->form == STATE_OPAQUE) : 0;
    carried->pending = feeds && state->form == STATE_OPAQUE ? prompt->ids[prompt->count - 1] : TOKEN_NONE;
    return true;
}

static void state_write_text(struct state_request *state, struct json_writer *out)
{
    const struct state_owner owner = served_state_owner(state->reader.served);
    state_text_write_json(&owner, &state->reader.text.carried, out);
}

/* One layer at a time. True where that was all. */
static bool state_write_layer(struct state_request *state, struct json_writer *out)
{
    const struct stepper *stepper = &state->reader.served->stepper;
    state_field_write_layer(stepper, state->reader.text.carried.state, state->written++, out);
    return state->written == stepper->architecture.layers;
}

static enum text_state state_write(void *context, struct json_writer *out, struct error *err)
{
    struct state_request *state = context;
    const struct generation *generation = &state->reader.text.generation;
    const struct carried_state *carried = &state->reader.text.carried;
    const char *model = state->reader.served->model.name;
    (void)err;
    if (state->written == 0) {
        json_write_literal(out, "{\"model\":");
        json_write_string(out, model, strlen(model));
        json_write_literal(out, ",\"state\":");
    }
    if (state->form == STATE_OPAQUE)
        state_write_text(state, out);
    else if (!state_write_layer(state, out))
        return TEXT_MORE;
    json_write_literal(out, ",\"token_count\":");
    json_write_integer(out, (int64_t)(state->reader.count + (carried->pending != TOKEN_NONE)));
    json_write_literal(out, ",");
    answer_write_warnings(generation, state->reader.text.text.data, NULL, out);
    json_write_literal(out, "}\n");
    return TEXT_END;
}

static const struct text_reader_kind kind = {.size = sizeof(struct state_request),
                                             .rows = rows,
                                             .row_count = sizeof rows / sizeof *rows,
                                             .open = state_open,
                                             .write = state_write};

enum http_outcome api_state(struct http_request *request, void *context)
{
    return text_reader_run(request, context, &kind);
}
