/* /score: how likely the model finds a text. text_reader.c has it read. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate/answer.h"
#include "model/generate/reading.h"
#include "server/api/api.h"
#include "server/api/text_reader.h"

struct score {
    struct text_reader reader; /* first */
    bool return_state;
    double *logprobs; /* [prompt.count] */
    size_t written;   /* the answer's: tokens, and behind them the rest */
};

static const struct field rows[] = {
    SCORED_TEXT_ROWS(offsetof(struct score, reader.text)),
    SCORED_TEXT_STATE_ROW(offsetof(struct score, reader.text)),
    {"return_state", FIELD_BOOL, offsetof(struct score, return_state), 0, 0, NULL, 0},
};

/* The last token is not fed, because no token follows whose probability is wanted. A state in the answer holds it as
 * pending. */
static bool score_open(struct text_reader *reader, struct problem *problem)
{
    struct score *score = (struct score *)reader;
    if (!scored_text_open(&reader->text, reader->services, reader->served, problem)) return false;
    if (score->return_state && !scored_text_keep_state(&reader->text, reader->served, "return_state", problem))
        return false;
    const size_t count = reader->text.generation.prompt.count;
    reader->count = count - 1;
    reader->wanted_from = reader->text.first - 1;
    reader->text.carried.pending = reader->text.generation.prompt.ids[count - 1];
    score->logprobs = calloc(count, sizeof *score->logprobs);
    return score->logprobs || problem_set(problem, 503, "out of memory");
}

static void score_fed(struct text_reader *reader, size_t i)
{
    struct score *score = (struct score *)reader;
    const size_t vocabulary = reader->served->stepper.architecture.vocabulary_size;
    if (i < reader->wanted_from) return;
    score->logprobs[i + 1] =
        reading_log_probability(reader->reading.logits, vocabulary, reader->text.generation.prompt.ids[i + 1]);
}

static void score_close(struct text_reader *reader)
{
    free(((struct score *)reader)->logprobs);
}

static void write_token(const struct score *score, size_t i, struct json_writer *out)
{
    const uint32_t id = score->reader.text.generation.prompt.ids[i];
    size_t n;
    const char *text = vocabulary_token(score->reader.text.generation.vocabulary, id, &n);
    json_write(out, i > score->reader.text.first ? ",{" : "{", i > score->reader.text.first ? 2 : 1);
    json_write_literal(out, "\"id\":");
    json_write_integer(out, id);
    json_write_literal(out, ",\"token\":");
    json_write_string(out, text, n);
    json_write_literal(out, ",\"logprob\":");
    json_write_real(out, score->logprobs[i]);
    json_write_literal(out, "}");
}

static void write_state(const struct score *score, struct json_writer *out)
{
    const struct state_owner owner = served_state_owner(score->reader.served);
    json_write_literal(out, "\"state\":");
    state_text_write_json(&owner, &score->reader.text.carried, out);
    json_write_literal(out, ",");
}

/* Writes the members behind the tokens. */
static void write_sums(const struct score *score, struct json_writer *out)
{
    const struct generation *generation = &score->reader.text.generation;
    double nats = 0;
    for (size_t i = score->reader.text.first; i < generation->prompt.count; i++) nats -= score->logprobs[i];
    json_write_literal(out, "],");
    scored_text_write_sums(&score->reader.text, nats, out);
    json_write_literal(out, ",");
    if (score->return_state) write_state(score, out);
    answer_write_warnings(generation, score->reader.text.text.data, NULL, out);
    json_write_literal(out, "}\n");
}

static enum text_state write_answer(void *context, struct json_writer *out, struct error *err)
{
    struct score *score = context;
    const char *model = score->reader.served->model.name;
    (void)err;
    if (score->written < score->reader.text.first) {
        json_write_literal(out, "{\"model\":");
        json_write_string(out, model, strlen(model));
        json_write_literal(out, ",\"tokens\":[");
        score->written = score->reader.text.first;
    }
    if (score->written < score->reader.text.generation.prompt.count) {
        write_token(score, score->written++, out);
        return TEXT_MORE;
    }
    write_sums(score, out);
    return TEXT_END;
}

static const struct text_reader_kind kind = {.size = sizeof(struct score),
                                             .rows = rows,
                                             .row_count = sizeof rows / sizeof *rows,
                                             .open = score_open,
                                             .fed = score_fed,
                                             .write = write_answer,
                                             .close = score_close};

enum http_outcome api_score(struct http_request *request, void *context)
{
    return text_reader_run(request, context, &kind);
}
