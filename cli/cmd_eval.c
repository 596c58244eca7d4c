/* lstmd eval: the loss of a model on a text. */
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/loaded.h"
#include "model/generate/evaluate.h"
#include "model/kernels/blas.h"
#include "model/train/options.h"

struct flags {
    const char *model, *columns, *label_column, *field;
    struct option_list data;
    int format, csv_header, weights, products;
    int64_t threads;
    bool bytes, json;
};

/* FORMAT_TRAINED and HEADER_TRAINED: as the model was trained. Other values are enum corpus_format + 1 and the
 * trainer's csv_header + 1. */
enum { FORMAT_TRAINED, HEADER_TRAINED = 0 };
static const char *const format_choices[] = {"trained", "auto", "text", "lines", "csv", "jsonl", "tsv", NULL};
static const char *const header_choices[] = {"trained", "auto", "yes", "no", NULL};

static const char *const weights_choices[] = {"auto", "f32", "bf16", "int8", NULL};

/* enum products */
static const char *const product_choices[] = {"auto", "own", "openblas", NULL};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "Model directory."},
    {"data", OPTION_LIST, offsetof(struct flags, data), NULL, 1, 4095, NULL, NULL,
     "Text, csv, tsv or jsonl file to evaluate on, also as gzip or UTF-16; several files count together."},
    {"format", OPTION_CHOICE, offsetof(struct flags, format), "trained", 0, 0, format_choices, NULL,
     "Form of the file; trained: form and columns as in training, unless the ending says csv, tsv or jsonl; auto: by "
     "the ending, then by the first bytes."},
    {"columns", OPTION_TEXT, offsetof(struct flags, columns), NULL, 1, 1023, NULL, NULL,
     "csv, tsv: columns to read, by name or 1-based number."},
    {"label_column", OPTION_TEXT, offsetof(struct flags, label_column), NULL, 1, 255, NULL, NULL,
     "csv, tsv, jsonl: the column or field with a label."},
    {"field", OPTION_TEXT, offsetof(struct flags, field), NULL, 1, 255, NULL, NULL,
     "jsonl: the field with the text, or several fields: prompt,completion."},
    {"csv_header", OPTION_CHOICE, offsetof(struct flags, csv_header), "trained", 0, 0, header_choices, NULL,
     "csv, tsv: whether the first row is a header; auto: yes if a flag names a column, else no."},
    {"bytes", OPTION_BOOL, offsetof(struct flags, bytes), "false", 0, 0, NULL, NULL,
     "Reads the file byte by byte; it need not be UTF-8 (always so for byte-level models)."},
    {"weights", OPTION_CHOICE, offsetof(struct flags, weights), "auto", 0, 0, weights_choices, NULL,
     "Format of the weights in memory, to see what fewer bits cost; auto: as in the directory."},
    {"products", OPTION_CHOICE, offsetof(struct flags, products), "auto", 0, 0, product_choices, NULL,
     "Who multiplies where a running text is read: lstmd's kernels, or OpenBLAS; auto: own, except on a CPU without "
     "vector kernels."},
    {"threads", OPTION_INT, offsetof(struct flags, threads), "0", 0, 1024, NULL, NULL,
     "Worker threads; the result does not depend on them; 0: one per core."},
    {"json", OPTION_BOOL, offsetof(struct flags, json), "false", 0, 0, NULL, NULL, "Prints JSON."},
};

static const char *const required[] = {"model", "data", NULL};

static const struct command_line line = {
    .usage = "lstmd eval --model DIR --data FILE [--data FILE ...] [--format FORMAT] [--weights FORMAT] "
             "[--products WHO] [--threads N] [--json]",
    .description =
        "Prints how well a model predicts a text: nats and bits per character, perplexity, and how often the\n"
        "likeliest token was right. Every token counts once, <eos> included. A text's first token counts only if\n"
        "the model has a start token. Each document starts from a zero state. A running text carries its state\n"
        "from beginning to end.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .required = required,
};

/* The options that config.json's "training" says the model was trained with; the defaults if it says nothing. */
static void trained_options(const struct model *model, struct trainer_options *options)
{
    const json_t *saved = json_object_get(json_object_get(model->config, "training"), "options");
    trainer_options_default(options);
    if (!json_is_object(saved)) return;
    if (!trainer_options_from_json(options, saved, "config.json", NULL)) trainer_options_default(options);
}

/* The format if no flag names one: as in training, unless the file's ending names another one. */
static int default_format(const char *data, const struct trainer_options *trained)
{
    const enum corpus_format ending = corpus_format_guess(data);
    const bool tells = ending != CORPUS_TEXT && ending != CORPUS_AUTO;
    return tells && (int)ending != trained->format ? (int)CORPUS_AUTO : trained->format;
}

static bool is_table(enum corpus_format format)
{
    return format == CORPUS_CSV || format == CORPUS_TSV;
}

/* Drops the options of training that the file's format does not have. */
static void keep_what_fits(struct trainer_options *trained, const char *data, int format)
{
    const enum corpus_format read = format == CORPUS_AUTO ? corpus_format_guess(data) : (enum corpus_format)format;
    const bool json = read == CORPUS_JSONL || read == CORPUS_AUTO;
    if (!is_table(read)) {
        trained->columns = NULL;
        trained->csv_header = 0;
    }
    if (!json) trained->field = NULL;
    if (!is_table(read) && !json) trained->label_column = NULL;
    trained->format = format;
}

/* Flags win; other options are as in training if the format is the same. Texts are borrowed. */
static struct corpus_options corpus_options(const struct flags *flags, const char *data, const struct model *model)
{
    struct trainer_options options;
    trained_options(model, &options);
    const int format = flags->format == FORMAT_TRAINED ? default_format(data, &options) : flags->format - 1;
    keep_what_fits(&options, data, format);
    options.bytes = flags->bytes || vocabulary_level(model->vocabulary) == TOKEN_LEVEL_BYTE;
    if (flags->columns) options.columns = flags->columns;
    if (flags->label_column) options.label_column = flags->label_column;
    if (flags->field) options.field = flags->field;
    if (flags->csv_header != HEADER_TRAINED) options.csv_header = flags->csv_header - 1;
    return trainer_corpus_options(&options);
}

/* Refuses flags that the file's format cannot use: otherwise they would be ignored without a word. */
static bool check_flags(const char *data, const struct corpus_options *options, struct error *err)
{
    const enum corpus_format format = options->format == CORPUS_AUTO ? corpus_format_guess(data) : options->format;
    const char *needs, *key = corpus_options_misfit(options, format, &needs);
    return !key || error_set(err, ERROR_USAGE, "%s needs format %s, and %s is read as %s", key, needs, data,
                             corpus_format_name(format));
}

/* The files and their documents; the documents borrow from the files. */
struct text {
    struct corpus *files;
    size_t count;
    struct corpus all;
};

static void text_close(struct text *text)
{
    corpus_close(&text->all);
    for (size_t i = 0; text->files && i < text->count; i++) corpus_close(&text->files[i]);
    free(text->files);
}

static bool text_open(struct text *text, const struct flags *flags, const struct model *model, struct error *err)
{
    const size_t count = flags->data.count;
    const struct corpus **parts = calloc(count, sizeof(struct corpus *));
    *text = (struct text){.files = calloc(count, sizeof *text->files), .count = count};
    bool done = (parts && text->files) || error_set_no_memory(err, count * sizeof *text->files, "the files");
    for (size_t i = 0; done && i < count; i++) {
        struct corpus_options options = corpus_options(flags, flags->data.items[i], model);
        options.most_unpacked = memory_limit() / 2;
        parts[i] = &text->files[i];
        done = check_flags(flags->data.items[i], &options, err) &&
               corpus_load(&text->files[i], flags->data.items[i], &options, err);
    }
    done = done && corpus_join(parts, count, &text->all, err);
    free(parts);
    return done;
}

static size_t thread_count(const struct flags *flags)
{
    cpu_set_t set;
    if (flags->threads > 0) return (size_t)flags->threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;
}

/* Who has multiplied. */
static const char *products_name(const struct evaluation *result)
{
    return result->library ? blas_name() : products_choices[PRODUCTS_OWN];
}

static bool print_json(const struct evaluation *result, struct error *err)
{
    json_t *json = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:s}", "tokens", (json_int_t)result->tokens, "chars",
                             (json_int_t)result->characters, "nats_per_token", result->nats_per_token, "nats_per_char",
                             result->nats_per_character, "bits_per_char", result->bits_per_character, "perplexity",
                             result->perplexity, "accuracy", result->accuracy, "products", products_name(result));
    if (!json) return error_set(err, ERROR_NO_MEMORY, "out of memory for the result");
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return true;
}

static bool print_table(const struct evaluation *result)
{
    printf("tokens      %zu\n", result->tokens);
    printf("chars       %zu\n", result->characters);
    printf("nats/token  %.6f\n", result->nats_per_token);
    printf("nats/char   %.6f\n", result->nats_per_character);
    printf("bits/char   %.6f\n", result->bits_per_character);
    printf("perplexity  %.6g\n", result->perplexity);
    printf("accuracy    %.6f\n", result->accuracy);
    if (result->library) printf("products    %s\n", products_name(result));
    return true;
}

static bool print_result(const struct flags *flags, const struct evaluation *result, struct error *err)
{
    if (!isfinite(result->perplexity) || !isfinite(result->nats))
        return error_set(err, ERROR_NUMERIC, "the loss is not a finite number: %g nats per token",
                         result->nats_per_token);
    return flags->json ? print_json(result, err) : print_table(result);
}

static void warn_of_skipped(const struct flags *flags, size_t skipped)
{
    const char *first = flags->data.items[0];
    if (skipped == 0) return;
    fprintf(stderr,
            "lstmd: warning: %zu character%s or word%s of %s%s %s not in the model's vocabulary and %s skipped; "
            "the loss is that of the rest\n",
            skipped, skipped == 1 ? "" : "s", skipped == 1 ? "" : "s", first,
            flags->data.count > 1 ? " and the other files" : "", skipped == 1 ? "is" : "are",
            skipped == 1 ? "was" : "were");
}

static void warn_of_products(const struct flags *flags, const struct evaluation *result)
{
    if (flags->products != PRODUCTS_OPENBLAS || result->library) return;
    fprintf(stderr, "lstmd: warning: OpenBLAS multiplies where one running text is read in f32 by a network without a "
                    "window; this was read with lstmd's own kernels\n");
}

static bool choose_products(const struct flags *flags, struct stepper *stepper, struct error *err)
{
    enum products chosen;
    if (!products_choose((enum products)flags->products, stepper->kernels, &chosen, err)) return false;
    stepper->library = chosen == PRODUCTS_OPENBLAS;
    return true;
}

static bool eval_run(const struct flags *flags, struct error *err)
{
    struct loaded loaded;
    struct text text = {0};
    struct dataset dataset = {0};
    struct evaluation result;
    size_t skipped = 0;
    bool done = false;

    if (!loaded_open_as(&loaded, flags->model, flags->weights, err)) goto out;
    if (!choose_products(flags, &loaded.stepper, err)) goto out;
    if (!text_open(&text, flags, &loaded.model, err)) goto out;
    if (!dataset_encode(&dataset, &text.all, loaded.model.vocabulary, NULL, &skipped, err)) goto out;
    warn_of_skipped(flags, skipped);
    if (dataset.characters == 0) {
        error_set(err, ERROR_INVALID, "%s: nothing of it is in the model's vocabulary", flags->data.items[0]);
        goto out;
    }
    const struct evaluate_options how = {.threads = thread_count(flags), .lanes = 1};
    done = evaluate(&loaded.stepper, &dataset, &how, &result, err);
    if (done) warn_of_products(flags, &result);
    done = done && print_result(flags, &result, err);
out:
    dataset_close(&dataset);
    text_close(&text);
    loaded_close(&loaded);
    return done;
}

int cmd_eval(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!eval_run(&flags, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}
