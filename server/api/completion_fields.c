/* The fields of a request for continuations: those of its dialect, and one for each option of the sampler. */
#include <string.h>

#include "server/api/completion.h"

#define MAX_ROWS 64 /* as struct field_table has it */

static struct field sampler_field(const struct sampler_option *option, bool is_openai)
{
    struct field field = {
        .name = option->name,
        .type = option->type == SAMPLER_REAL ? FIELD_REAL : FIELD_INTEGER,
        .offset = offsetof(struct completion_fields, sampler) + option->offset,
        .minimum = option->minimum,
        .maximum = option->maximum,
        .flags =
            (option->flags & SAMPLER_ABOVE ? FIELD_ABOVE : 0u) | (option->flags & SAMPLER_BELOW ? FIELD_BELOW : 0u),
    };
    if (!is_openai) return field;
    field.flags |= FIELD_NULLABLE;
    if (option->openai_bound == 0) return field;
    field.minimum = -option->openai_bound;
    field.maximum = option->openai_bound;
    return field;
}

void completion_read(struct completion *completion, uint64_t *given, struct problem *problem)
{
    const struct completion_dialect *dialect = completion->dialect;
    const struct config *config = completion->services->config;
    struct field rows[MAX_ROWS];
    size_t count = dialect->row_count;
    memcpy(rows, dialect->rows, count * sizeof *rows);
    rows[COMPLETION_ROW_LENGTH].maximum = (double)config->max_length;
    rows[COMPLETION_ROW_N].maximum = rows[COMPLETION_ROW_BEST_OF].maximum = (double)config->max_n;
    for (size_t i = 0; i < sampler_option_count && count < MAX_ROWS; i++)
        rows[count++] = sampler_field(&sampler_option_rows[i], dialect->is_openai);
    const struct field_table table = {rows, count};
    if (completion->body)
        fields_read_json(&table, &completion->fields, completion->body, given, problem);
    else
        fields_read_query(&table, &completion->fields, http_request_query(completion->request), given, problem);
}
