#include "model/generate/answer.h"

#include <stdio.h>
#include <string.h>

#define LEAST_LOGPROB (-9999.0f) /* JSON has no infinity */
#define PREFIX_SIZE   40         /* bytes of what stands before a warning */
#define PART_BYTES    ((size_t)8 * 1024)

double answer_logprob(float logprob)
{
    return logprob > LEAST_LOGPROB ? (double)logprob : (double)LEAST_LOGPROB;
}

/* "id":...,"token":...,"logprob":... */
static void write_token(const struct vocabulary *vocabulary, uint32_t id, float logprob, struct json_writer *out)
{
    size_t n;
    const char *text = vocabulary_token(vocabulary, id, &n);
    json_write_literal(out, "\"id\":");
    json_write_integer(out, id);
    json_write_literal(out, ",\"token\":");
    json_write_string(out, text, n);
    json_write_literal(out, ",\"logprob\":");
    json_write_real(out, answer_logprob(logprob));
}

/* Token i with its alternatives, and a comma before it unless it is the list's first. */
static void write_logprob(const struct generation *generation, size_t i, bool first, struct json_writer *out)
{
    const size_t count = generation->alternative_count;
    const struct token_probability *top = generation->alternatives + i * count;
    const struct generated_token *token = &generation->tokens[i];
    json_write(out, first ? "{" : ",{", first ? 1 : 2);
    write_token(generation->vocabulary, token->id, token->logprob, out);
    json_write_literal(out, ",\"top_logprobs\":[");
    for (size_t k = 0; k < count; k++) {
        json_write(out, k > 0 ? ",{" : "{", k > 0 ? 2 : 1);
        write_token(generation->vocabulary, top[k].id, top[k].logprob, out);
        json_write_literal(out, "}");
    }
    json_write_literal(out, "]}");
}

void answer_write_logprobs(const struct generation *generation, size_t first, size_t count, struct json_writer *out)
{
    json_write_literal(out, "[");
    for (size_t i = first; i < first + count; i++) write_logprob(generation, i, i == first, out);
    json_write_literal(out, "]");
}

void answer_write_state(const struct state_owner *owner, const struct generation *generation, struct json_writer *out)
{
    const struct carried_state carried = generation_carried(generation);
    state_text_write_json(owner, &carried, out);
}

/* Writes the warnings of a prompt, each with the prefix. *first: no warning was written before them. */
static void write_warnings(const struct generation *generation, const char *prompt, const char *prefix, bool *first,
                           struct json_writer *out)
{
    const size_t count = generation_warning_count(generation);
    for (size_t i = 0; i < count; i++) {
        char text[GENERATION_WARNING_SIZE], whole[GENERATION_WARNING_SIZE + PREFIX_SIZE];
        generation_warning(generation, prompt, i, text);
        const int size = snprintf(whole, sizeof whole, "%s%s", prefix, text);
        if (!*first) json_write_literal(out, ",");
        json_write_string(out, whole, (size_t)size);
        *first = false;
    }
}

void answer_write_warnings(const struct generation *generation, const char *prompt, const char *warning,
                           struct json_writer *out)
{
    bool first = !warning;
    json_write_literal(out, "\"warnings\":[");
    if (warning) json_write_string(out, warning, strlen(warning));
    write_warnings(generation, prompt, "", &first, out);
    json_write_literal(out, "]");
}

static bool begins_prompt(const struct answer *answer, size_t i)
{
    return i == 0 || answer->choices[i].prompt_index != answer->choices[i - 1].prompt_index;
}

void answer_write_all_warnings(const struct answer *answer, struct json_writer *out)
{
    bool first = !answer->warning;
    json_write_literal(out, "\"warnings\":[");
    if (answer->warning) json_write_string(out, answer->warning, strlen(answer->warning));
    for (size_t i = 0; i < answer->count; i++) {
        const struct answer_choice *choice = &answer->choices[i];
        char prefix[PREFIX_SIZE] = "";
        if (!begins_prompt(answer, i)) continue;
        if (answer->has_prompts) snprintf(prefix, sizeof prefix, "prompt[%zu]: ", choice->prompt_index);
        write_warnings(choice->generation, choice->prompt, prefix, &first, out);
    }
    json_write_literal(out, "]");
}

struct answer_usage answer_usage(const struct answer *answer)
{
    struct answer_usage usage = {0};
    for (size_t i = 0; i < answer->count; i++) {
        const struct generation *generation = answer->choices[i].generation;
        usage.completion += generation->produced;
        if (!begins_prompt(answer, i)) continue;
        usage.prompt += generation->prompt.count;
        usage.cached += generation->cached;
    }
    return usage;
}

static void write_count(const char *key, size_t n, struct json_writer *out)
{
    json_write(out, key, strlen(key));
    json_write_integer(out, (int64_t)n);
}

static void write_milliseconds(const char *key, double value, struct json_writer *out)
{
    json_write(out, key, strlen(key));
    json_write_real(out, value);
}

/* usage, timings, warnings */
static void write_numbers(const struct answer *answer, struct json_writer *out)
{
    const struct answer_usage usage = answer_usage(answer);
    const double seconds = answer->generate_ms / 1000;
    write_count("\"usage\":{\"prompt_tokens\":", usage.prompt, out);
    write_count(",\"cached_tokens\":", usage.cached, out);
    write_count(",\"completion_tokens\":", usage.completion, out);
    write_milliseconds("},\"timings\":{\"queue_ms\":", answer->queue_ms, out);
    write_milliseconds(",\"prompt_ms\":", answer->prompt_ms, out);
    write_milliseconds(",\"generate_ms\":", answer->generate_ms, out);
    write_milliseconds(",\"tokens_per_second\":", seconds > 0 ? (double)usage.completion / seconds : 0, out);
    json_write_literal(out, "},");
    answer_write_all_warnings(answer, out);
}

/* "finish_reason":...,"seed":...,"state":... of a continuation */
static void write_facts(const struct answer *answer, size_t index, bool with_state, struct json_writer *out)
{
    const struct answer_choice *choice = &answer->choices[index];
    const char *reason = finish_reason_name(choice->generation->finish);
    json_write_literal(out, "\"finish_reason\":");
    json_write_string(out, reason, strlen(reason));
    json_write_literal(out, ",\"seed\":");
    if (answer->has_no_seed)
        json_write_literal(out, "null");
    else
        json_write_integer(out, (int64_t)choice->seed);
    if (!answer->owner || !with_state) return;
    json_write_literal(out, ",\"state\":");
    answer_write_state(answer->owner, choice->generation, out);
}

void answer_write_end(const struct answer *answer, struct json_writer *out)
{
    write_facts(answer, 0, true, out);
    json_write_literal(out, ",");
    write_numbers(answer, out);
}

/* --- The answer in pieces --- */

static const struct answer_choice *block_choice(const struct answer_writer *writer)
{
    return &writer->answer->choices[writer->block > 0 ? writer->block - 1 : 0];
}

static void begin_block(const struct answer_writer *writer, struct json_writer *out)
{
    const struct answer *answer = writer->answer;
    if (writer->block == 0) {
        json_write_literal(out, "{\"id\":");
        json_write_string(out, answer->id, strlen(answer->id));
        json_write_literal(out, ",\"model\":");
        json_write_string(out, answer->model, strlen(answer->model));
    } else {
        json_write_literal(out, "{\"index\":");
        json_write_integer(out, (int64_t)writer->block - 1);
        if (answer->has_prompts) write_count(",\"prompt_index\":", block_choice(writer)->prompt_index, out);
    }
    json_write_literal(out, ",\"text\":\"");
}

/* The next part of what is left of a text, n bytes; true where that is all. */
static bool write_part(struct answer_writer *writer, const char *text, size_t n, struct json_writer *out)
{
    const size_t part = n < PART_BYTES ? n : PART_BYTES;
    json_write_part(out, &writer->string, text, part);
    writer->at += part;
    return part == n;
}

/* The prompt and the completion are written as one string: a character may begin in one and end in the other. */
static bool write_text(struct answer_writer *writer, struct json_writer *out)
{
    const struct answer_choice *choice = block_choice(writer);
    const struct generation *generation = choice->generation;
    const size_t prompt = writer->stage == ANSWER_TEXT ? choice->prompt_bytes : 0;
    if (writer->at < prompt) {
        write_part(writer, choice->prompt + writer->at, prompt - writer->at, out);
        return false;
    }
    const size_t at = writer->at - prompt;
    if (!write_part(writer, generation->text + at, generation->text_bytes - at, out)) return false;
    json_write_part_end(out, &writer->string);
    json_write_literal(out, "\"");
    writer->at = 0;
    return true;
}

static bool has_choices(const struct answer *answer)
{
    return answer->count > 1 || answer->has_prompts;
}

/* The choice is over, or the members of the answer that stand before choices. */
static void end_block(struct answer_writer *writer, struct json_writer *out)
{
    const size_t blocks = has_choices(writer->answer) ? writer->answer->count + 1 : 1;
    writer->at = 0;
    if (writer->block > 0) json_write_literal(out, "}");
    if (++writer->block < blocks) {
        if (writer->block == 1)
            json_write_literal(out, ",\"choices\":[");
        else
            json_write_literal(out, ",");
        writer->stage = ANSWER_BEGIN;
        return;
    }
    if (blocks > 1) json_write_literal(out, "]");
    writer->stage = ANSWER_END;
}

/* One token; behind the last one the list ends. */
static void write_tokens(struct answer_writer *writer, struct json_writer *out)
{
    const struct generation *generation = block_choice(writer)->generation;
    if (writer->at < generation->tokens_ready) {
        write_logprob(generation, writer->at, writer->at == 0, out);
        writer->at++;
        return;
    }
    json_write_literal(out, "]");
    end_block(writer, out);
}

static void end_facts(struct answer_writer *writer, struct json_writer *out)
{
    const struct answer *answer = writer->answer;
    const bool shows = !has_choices(answer) || writer->block > 0;
    json_write_literal(out, ",");
    write_facts(answer, writer->block > 0 ? writer->block - 1 : 0, shows, out);
    if (shows && block_choice(writer)->generation->alternative_count > 0) {
        json_write_literal(out, ",\"logprobs\":[");
        writer->stage = ANSWER_LOGPROBS;
    } else {
        end_block(writer, out);
    }
}

bool answer_write(struct answer_writer *writer, struct json_writer *out)
{
    switch (writer->stage) {
    case ANSWER_BEGIN:
        begin_block(writer, out);
        writer->stage = ANSWER_TEXT;
        return true;
    case ANSWER_TEXT:
        if (!write_text(writer, out)) return true;
        json_write_literal(out, ",\"completion\":\"");
        writer->stage = ANSWER_COMPLETION;
        return true;
    case ANSWER_COMPLETION:
        if (write_text(writer, out)) writer->stage = ANSWER_FACTS;
        return true;
    case ANSWER_FACTS:
        end_facts(writer, out);
        return true;
    case ANSWER_LOGPROBS:
        write_tokens(writer, out);
        return true;
    case ANSWER_END:
        json_write_literal(out, ",");
        write_numbers(writer->answer, out);
        json_write_literal(out, "}\n");
        break;
    }
    return false;
}
