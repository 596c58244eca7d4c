/* The trainer's options as the page sees them: a row per field of POST /train, as JSON Schema has it with the names of
 * openapi.yaml, and the values of every preset. The page makes its form for training from them. */
#include <string.h>

#include "server/api/train.h"

bool train_option_is_field(const struct trainer_option *row)
{
    static const char *const keys[] = {"data", "validation_data", "init_from"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(row->key, keys[i]) == 0) return false;
    return true;
}

static json_t *choices_to_json(const char *const *choices)
{
    json_t *list = json_array();
    for (size_t i = 0; list && choices[i]; i++) {
        if (json_array_append_new(list, json_string(choices[i])) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

/* NULL without memory. A unit that is NULL is left out. */
static json_t *train_option_schema(const struct trainer_option *row)
{
    switch (row->kind) {
    case TRAINER_BOOL:
        return json_pack("{s:s, s:s}", "type", "boolean", "description", row->help);
    case TRAINER_INT:
        return json_pack("{s:s, s:s, s:I, s:I, s:s*}", "type", "integer", "description", row->help, "minimum",
                         (json_int_t)row->minimum, "maximum", (json_int_t)row->maximum, "unit", row->unit);
    case TRAINER_REAL:
        return json_pack("{s:s, s:s, s:f, s:f, s:s*}", "type", "number", "description", row->help, "minimum",
                         row->minimum, "maximum", row->maximum, "unit", row->unit);
    case TRAINER_TEXT:
        return json_pack("{s:[s, s], s:s, s:I, s:I}", "type", "string", "null", "description", row->help, "minLength",
                         (json_int_t)row->minimum, "maxLength", (json_int_t)row->maximum);
    case TRAINER_CHOICE:
        return json_pack("{s:o, s:s}", "enum", choices_to_json(row->choices), "description", row->help);
    }
    return NULL;
}

/* Takes the value; false without memory. */
static bool json_add(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

static bool add_options(json_t *options)
{
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        if (train_option_is_field(row) && !json_add(options, row->key, train_option_schema(row))) return false;
    }
    return true;
}

static json_t *preset_values(enum trainer_preset_kind kind)
{
    struct trainer_options options;
    trainer_options_preset(&options, kind);
    return trainer_options_to_json(&options, TRAINER_RECIPE | TRAINER_ADJUSTABLE, NULL);
}

static bool add_presets(json_t *presets)
{
    for (size_t i = 0; i < PRESET_COUNT; i++) {
        json_t *preset = json_pack("{s:s, s:o}", "description", trainer_presets[i].help, "options",
                                   preset_values((enum trainer_preset_kind)i));
        if (!json_add(presets, trainer_preset_names[i], preset)) return false;
    }
    return true;
}

json_t *train_options_schema(void)
{
    json_t *options = json_object(), *presets = json_object();
    if (options && presets && add_options(options) && add_presets(presets))
        return json_pack("{s:o, s:o}", "options", options, "presets", presets);
    json_decref(options);
    json_decref(presets);
    return NULL;
}
