#include "model/interop/recurrent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/interop/recurrent_internal.h"

#define MAX_MATRICES 16 /* other matrices */
#define LIST_SIZE    320

static const char *const part_names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};

/* ---- names ---- */

static size_t prefix_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) + 1 : 0;
}

struct parsed_name {
    enum part part;
    size_t layer;
    bool cell, reverse;
};

/* "weight_ih_l0", "bias_hh_l1_reverse", "weight_ih" */
static bool parse_name(const char *name, struct parsed_name *parsed)
{
    const char *leaf = name + prefix_length(name), *rest = NULL;
    *parsed = (struct parsed_name){0};
    for (size_t i = 0; i < PART_COUNT; i++) {
        const size_t n = strlen(part_names[i]);
        if (strncmp(leaf, part_names[i], n) != 0) continue;
        parsed->part = (enum part)i;
        rest = leaf + n;
    }
    if (!rest) return false;
    parsed->cell = *rest == '\0';
    if (parsed->cell) return true;
    if (strncmp(rest, "_l", 2) != 0 || rest[2] < '0' || rest[2] > '9') return false;
    char *end;
    parsed->layer = strtoul(rest + 2, &end, 10);
    parsed->reverse = strcmp(end, "_reverse") == 0;
    return parsed->reverse || *end == '\0';
}

bool recurrent_is_in(const struct foreign_tensors *tensors)
{
    struct parsed_name parsed;
    for (size_t i = 0; i < tensors->count; i++)
        if (parse_name(tensors->list[i].name, &parsed)) return true;
    return false;
}

/* Lists names and shapes of tensors that are not used yet, separated by ", ". */
static void list_unused(const struct foreign_tensors *tensors, char out[LIST_SIZE])
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < tensors->count; i++) {
        const struct foreign_tensor *tensor = &tensors->list[i];
        char shape[FOREIGN_SHAPE_TEXT];
        if (tensor->used) continue;
        const int n = snprintf(out + at, LIST_SIZE - at, "%s%.64s %s", at > 0 ? ", " : "", tensor->name,
                               foreign_shape_text(tensor, shape));
        if (n < 0 || at + (size_t)n >= LIST_SIZE) {
            snprintf(out + (at > LIST_SIZE - 8 ? LIST_SIZE - 8 : at), 8, ", ...");
            return;
        }
        at += (size_t)n;
    }
}

/* ---- recurrent layers ---- */

static bool bad_shape(const struct model_parts *parts, const struct foreign_tensor *tensor, const char *why,
                      struct error *err)
{
    char shape[FOREIGN_SHAPE_TEXT];
    return error_set(err, ERROR_INVALID, "%s: \"%s\" has the shape %s, %s", parts->tensors->place, tensor->name,
                     foreign_shape_text(tensor, shape), why);
}

static struct stack *find_stack(struct model_parts *parts, const char *name, bool cell)
{
    const size_t n = prefix_length(name);
    for (size_t i = 0; i < parts->stack_count; i++) {
        struct stack *stack = &parts->stacks[i];
        if (stack->cell == cell && stack->prefix_length == n && memcmp(stack->prefix, name, n) == 0) return stack;
    }
    if (parts->stack_count == MAX_STACKS) return NULL;
    struct stack *stack = &parts->stacks[parts->stack_count++];
    *stack = (struct stack){.prefix = name, .prefix_length = n, .cell = cell};
    return stack;
}

static bool collect_tensor(struct model_parts *parts, struct foreign_tensor *tensor, struct error *err)
{
    struct parsed_name parsed;
    const char *place = parts->tensors->place, *leaf = tensor->name + prefix_length(tensor->name);
    if (strncmp(leaf, "weight_hr", strlen("weight_hr")) == 0)
        return error_set(err, ERROR_INVALID, "%s: \"%s\" belongs to an LSTM with proj_size, which is not supported",
                         place, tensor->name);
    if (!parse_name(tensor->name, &parsed)) return true;
    if (parsed.reverse)
        return error_set(err, ERROR_INVALID, "%s: \"%s\" belongs to a bidirectional layer, which cannot generate text",
                         place, tensor->name);
    if (parsed.layer >= NETWORK_MAX_LAYERS)
        return error_set(err, ERROR_INVALID, "%s: \"%s\": at most %d layers are supported", place, tensor->name,
                         NETWORK_MAX_LAYERS);
    struct stack *stack = find_stack(parts, tensor->name, parsed.cell);
    if (!stack) return error_set(err, ERROR_INVALID, "%s: more than %d recurrent layers", place, MAX_STACKS);
    stack->layers[parsed.layer].parts[parsed.part] = tensor;
    tensor->used = true;
    return true;
}

/* Reads the number in which alone two prefixes differ. False: they differ otherwise. */
static bool numbers_of(const struct stack *a, const struct stack *b, unsigned long *first, unsigned long *second)
{
    size_t at = 0;
    while (at < a->prefix_length && at < b->prefix_length && a->prefix[at] == b->prefix[at]) at++;
    while (at > 0 && a->prefix[at - 1] >= '0' && a->prefix[at - 1] <= '9') at--;
    char *rest_a, *rest_b;
    if (a->prefix[at] < '0' || a->prefix[at] > '9' || b->prefix[at] < '0' || b->prefix[at] > '9') return false;
    *first = strtoul(a->prefix + at, &rest_a, 10);
    *second = strtoul(b->prefix + at, &rest_b, 10);
    const size_t n = a->prefix_length - (size_t)(rest_a - a->prefix);
    return n == b->prefix_length - (size_t)(rest_b - b->prefix) && memcmp(rest_a, rest_b, n) == 0;
}

/* Cells become layers, one above the other, where a number in their names gives the order. */
static bool stack_cells(struct model_parts *parts)
{
    for (size_t i = 0; i < parts->stack_count; i++) {
        if (!parts->stacks[i].cell || parts->stack_count > NETWORK_MAX_LAYERS) return false;
        size_t below = 0;
        for (size_t j = 0; j < parts->stack_count; j++) {
            unsigned long mine, other;
            if (j == i) continue;
            if (!numbers_of(&parts->stacks[i], &parts->stacks[j], &mine, &other) || mine == other) return false;
            below += other < mine;
        }
        parts->layers[below] = parts->stacks[i].layers[0];
    }
    parts->layer_count = parts->stack_count;
    return true;
}

/* ---- stacks whose sizes say their order ---- */

static size_t count_layers(const struct stack *stack)
{
    size_t count = 0;
    for (size_t k = 0; k < NETWORK_MAX_LAYERS; k++)
        for (size_t i = 0; i < PART_COUNT; i++)
            if (stack->layers[k].parts[i]) count = k + 1;
    return count;
}

/* The second dimension of a weight; 0: there is no weight. */
static size_t width_of(const struct foreign_tensor *tensor)
{
    return tensor && tensor->rank == 2 ? tensor->shape[1] : 0;
}

static size_t inputs_of(const struct stack *stack)
{
    return width_of(stack->layers[0].parts[WEIGHT_IH]);
}

static size_t outputs_of(const struct stack *stack)
{
    return width_of(stack->layers[count_layers(stack) - 1].parts[WEIGHT_HH]);
}

/* The orders in which stacks may stand one above the other. */
struct orders {
    const struct model_parts *parts;
    const struct foreign_tensor *matrices[MAX_MATRICES]; /* what may stand before and after them */
    size_t matrix_count;
    size_t order[MAX_STACKS], first[MAX_STACKS]; /* the current order, and the first that fits */
    bool placed[MAX_STACKS];
    size_t found; /* orders that fit; 2 end the search */
};

/* False: more layers than any network that lstmd reads. */
static bool list_matrices(struct orders *orders)
{
    const struct foreign_tensors *tensors = orders->parts->tensors;
    for (size_t i = 0; i < tensors->count; i++) {
        if (tensors->list[i].used || tensors->list[i].rank != 2) continue;
        if (orders->matrix_count == MAX_MATRICES) return false;
        orders->matrices[orders->matrix_count++] = &tensors->list[i];
    }
    return true;
}

/* Whether some matrix turns `outputs` numbers into tokens, and the tokens (or an embedding of them) give `inputs`
 * numbers. */
static bool ends_fit(const struct orders *orders, size_t inputs, size_t outputs)
{
    for (size_t o = 0; o < orders->matrix_count; o++) {
        const struct foreign_tensor *output = orders->matrices[o];
        if (output->shape[1] != outputs) continue;
        if (output->shape[0] == inputs) return true;
        for (size_t e = 0; e < orders->matrix_count; e++)
            if (orders->matrices[e]->shape[1] == inputs && orders->matrices[e]->shape[0] == output->shape[0])
                return true;
    }
    return false;
}

static void try_orders(struct orders *orders, size_t at)
{
    const struct stack *stacks = orders->parts->stacks;
    for (size_t i = 0; i < orders->parts->stack_count && orders->found < 2; i++) {
        if (orders->placed[i] || (at > 0 && outputs_of(&stacks[orders->order[at - 1]]) != inputs_of(&stacks[i])))
            continue;
        orders->placed[i] = true;
        orders->order[at] = i;
        if (at + 1 < orders->parts->stack_count)
            try_orders(orders, at + 1);
        else if (ends_fit(orders, inputs_of(&stacks[orders->order[0]]), outputs_of(&stacks[i])) && orders->found++ == 0)
            memcpy(orders->first, orders->order, sizeof orders->first);
        orders->placed[i] = false;
    }
}

/* "lstm1, lstm2" */
static void list_order(const struct orders *orders, char list[LIST_SIZE])
{
    size_t at = 0;
    for (size_t i = 0; i < orders->parts->stack_count && at < LIST_SIZE; i++) {
        const struct stack *stack = &orders->parts->stacks[orders->first[i]];
        const size_t n = stack->prefix_length > 0 ? stack->prefix_length - 1 : 0; /* without the dot */
        at += (size_t)snprintf(list + at, LIST_SIZE - at, "%s%.*s", i > 0 ? ", " : "", (int)(n < 64 ? n : 64),
                               stack->prefix);
    }
}

/* *stacked: the sizes fit in exactly one order, which is used. */
static bool stack_by_size(struct model_parts *parts, bool *stacked, struct error *err)
{
    struct orders orders = {.parts = parts};
    char list[LIST_SIZE] = "";
    size_t count = 0;
    for (size_t i = 0; i < parts->stack_count; i++) count += count_layers(&parts->stacks[i]);
    *stacked = false;
    if (count > NETWORK_MAX_LAYERS || !list_matrices(&orders)) return true;
    try_orders(&orders, 0);
    if (orders.found != 1) return true;
    for (size_t i = 0; i < parts->stack_count; i++) {
        const struct stack *stack = &parts->stacks[orders.first[i]];
        memcpy(parts->layers + parts->layer_count, stack->layers, count_layers(stack) * sizeof *stack->layers);
        parts->layer_count += count_layers(stack);
    }
    *stacked = true;
    list_order(&orders, list);
    return foreign_note(
        parts->foreign, err,
        "Its recurrent layers are taken to compute one after the other in the only order in which their "
        "sizes fit: %s.",
        list);
}

static bool choose_layers(struct model_parts *parts, struct error *err)
{
    const struct stack *first = &parts->stacks[0], *second = &parts->stacks[1];
    bool stacked;
    if (parts->stack_count == 0) {
        char list[LIST_SIZE];
        list_unused(parts->tensors, list);
        return error_set(err, ERROR_INVALID, "%s: no recurrent layer (weight_ih_l0 ...) among its tensors: %s",
                         parts->tensors->place, list);
    }
    if (parts->stack_count == 1) {
        memcpy(parts->layers, first->layers, sizeof parts->layers);
        parts->layer_count = count_layers(first);
        return true;
    }
    if (stack_cells(parts)) return true;
    if (!stack_by_size(parts, &stacked, err)) return false;
    if (stacked) return true;
    return error_set(
        err, ERROR_INVALID,
        "%s: has %zu recurrent layers of their own, \"%.*s\" and \"%.*s\" among them, and nothing says how "
        "they are connected: neither numbers in the names of cells nor sizes that fit in one order alone",
        parts->tensors->place, parts->stack_count, (int)first->prefix_length, first->prefix, (int)second->prefix_length,
        second->prefix);
}

static bool check_bias(const struct model_parts *parts, const struct foreign_tensor *bias, size_t rows,
                       struct error *err)
{
    return !bias || (bias->rank == 1 && bias->shape[0] == rows) ||
           bad_shape(parts, bias, "which is not one number per row of its layer's weights", err);
}

/* PyTorch's cell with this many gates. */
static bool find_cell(size_t gates, enum cell_kind *cell)
{
    for (size_t i = 0; i < CELL_COUNT; i++) {
        if (!cell_table[i].torch || cell_table[i].gates != gates) continue;
        *cell = (enum cell_kind)i;
        return true;
    }
    return false;
}

static bool check_layer(struct model_parts *parts, size_t k, struct error *err)
{
    struct architecture *a = &parts->architecture;
    const struct layer *layer = &parts->layers[k];
    const struct foreign_tensor *ih = layer->parts[WEIGHT_IH], *hh = layer->parts[WEIGHT_HH];
    if (!ih || !hh)
        return error_set(err, ERROR_INVALID, "%s: layer %zu has no %s", parts->tensors->place, k,
                         ih ? "weight_hh" : "weight_ih");
    if (hh->rank != 2 || hh->shape[1] < 1 || hh->shape[1] > NETWORK_MAX_HIDDEN || hh->shape[0] % hh->shape[1] != 0)
        return bad_shape(parts, hh, "which is not that of a recurrent layer: [gates * hidden, hidden]", err);
    const size_t gates = hh->shape[0] / hh->shape[1];
    if ((k == 0 && !find_cell(gates, &a->cell)) || gates != architecture_gates(a))
        return bad_shape(parts, hh, "but LSTM has 4 rows per hidden unit, GRU 3, RNN 1, the same in every layer", err);
    if (ih->rank != 2 || ih->shape[0] != hh->shape[0] || ih->shape[1] < 1 ||
        (k > 0 && ih->shape[1] != a->hidden_sizes[k - 1]))
        return bad_shape(parts, ih, "which does not fit to the layer's weight_hh or to the layer below", err);
    a->hidden_sizes[k] = (uint32_t)hh->shape[1];
    return check_bias(parts, layer->parts[BIAS_IH], hh->shape[0], err) &&
           check_bias(parts, layer->parts[BIAS_HH], hh->shape[0], err);
}

static bool find_layers(struct model_parts *parts, struct error *err)
{
    for (size_t i = 0; i < parts->tensors->count; i++)
        if (!collect_tensor(parts, &parts->tensors->list[i], err)) return false;
    if (!choose_layers(parts, err)) return false;
    for (size_t k = 0; k < parts->layer_count; k++)
        if (!check_layer(parts, k, err)) return false;
    parts->architecture.layers = (uint32_t)parts->layer_count;
    parts->architecture.hidden_size = parts->architecture.hidden_sizes[parts->layer_count - 1];
    return true;
}

/* ---- input and output ---- */

static struct foreign_tensor *bias_of(const struct foreign_tensors *tensors, const struct foreign_tensor *weight)
{
    const size_t n = prefix_length(weight->name);
    for (size_t i = 0; i < tensors->count; i++) {
        struct foreign_tensor *tensor = &tensors->list[i];
        if (strncmp(tensor->name, weight->name, n) == 0 && strcmp(tensor->name + n, "bias") == 0) return tensor;
    }
    return NULL;
}

static bool same_memory(const struct foreign_tensor *a, const struct foreign_tensor *b)
{
    return a->storage == b->storage && a->offset == b->offset && a->stride[0] == b->stride[0] &&
           a->stride[1] == b->stride[1];
}

/* Whether these two matrices fit (embedding NULL: one-hot) and no other is left. */
static bool head_fits(const struct model_parts *parts, const struct foreign_tensor *embedding,
                      const struct foreign_tensor *output, size_t matrices)
{
    const size_t input = parts->layers[0].parts[WEIGHT_IH]->shape[1];
    if (output->shape[1] != parts->architecture.hidden_size) return false;
    if (!embedding) return matrices == 1 && (parts->foreign->scaled_ids ? input == 1 : output->shape[0] == input);
    if (parts->foreign->scaled_ids) return false;
    if (embedding->shape[1] != input || embedding->shape[0] != output->shape[0]) return false;
    if (embedding == output) return matrices == 1 && parts->tensors->deduplicated;
    return matrices == 2 && !bias_of(parts->tensors, embedding);
}

/* If each matrix could be either, its name decides. */
static bool is_named_like_input(const struct foreign_tensor *tensor)
{
    static const char *const names[] = {"emb", "encoder", "lookup", "wte"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(tensor->name, names[i])) return true;
    return false;
}

struct choice {
    struct foreign_tensor *embedding, *output;
};

static size_t list_choices(const struct model_parts *parts, struct foreign_tensor **matrices, size_t count,
                           struct choice choices[2])
{
    size_t found = 0;
    for (size_t o = 0; o < count; o++)
        for (size_t e = 0; e <= count; e++) {
            struct foreign_tensor *embedding = e < count ? matrices[e] : NULL;
            if (!head_fits(parts, embedding, matrices[o], count)) continue;
            if (found < 2) choices[found] = (struct choice){embedding, matrices[o]};
            found++;
        }
    return found;
}

static bool refuse_rest(const struct model_parts *parts, size_t found, struct error *err)
{
    char list[LIST_SIZE];
    const size_t input = parts->layers[0].parts[WEIGHT_IH]->shape[1];
    list_unused(parts->tensors, list);
    return error_set(err, ERROR_INVALID,
                     "%s: %s as an embedding (or one-hot input) for the first layer's %zu inputs and one linear layer "
                     "for the last layer's %u outputs, of the same vocabulary: %s%s",
                     parts->tensors->place, found > 0 ? "in two ways, what is left can be read" : "cannot be read",
                     input, parts->architecture.hidden_size, list[0] ? list : "no tensor is left",
                     input == 1 && !parts->foreign->scaled_ids ? "; one input may be " INTEROP_SCALED_IDS : "");
}

static bool find_ends(struct model_parts *parts, struct error *err)
{
    struct foreign_tensor *matrices[MAX_MATRICES];
    struct choice choices[2] = {0};
    size_t count = 0;
    for (size_t i = 0; i < parts->tensors->count; i++) {
        struct foreign_tensor *tensor = &parts->tensors->list[i];
        if (tensor->used || tensor->rank != 2) continue;
        if (count == MAX_MATRICES) return refuse_rest(parts, 0, err);
        matrices[count++] = tensor;
    }
    const size_t found = list_choices(parts, matrices, count, choices);
    size_t chosen = 0;
    if (found == 2 && choices[0].embedding && choices[1].embedding) {
        const bool first = is_named_like_input(choices[0].embedding),
                   second = is_named_like_input(choices[1].embedding);
        if (first == second && !same_memory(choices[0].embedding, choices[0].output))
            return refuse_rest(parts, found, err);
        chosen = second && !first;
    } else if (found != 1) {
        return refuse_rest(parts, found, err);
    }
    parts->embedding = choices[chosen].embedding;
    parts->output = choices[chosen].output;
    parts->output_bias = bias_of(parts->tensors, parts->output);
    return true;
}

/* If the file has only one of two tied tensors, a bias may lack its weight. */
static void find_lonely_bias(struct model_parts *parts)
{
    if (parts->embedding != parts->output || parts->output_bias) return;
    for (size_t i = 0; i < parts->tensors->count; i++) {
        struct foreign_tensor *tensor = &parts->tensors->list[i];
        const char *leaf = tensor->name + prefix_length(tensor->name);
        if (!tensor->used && tensor->rank == 1 && strcmp(leaf, "bias") == 0) parts->output_bias = tensor;
    }
}

static bool describe_ends(struct model_parts *parts, struct error *err)
{
    struct architecture *a = &parts->architecture;
    if (!find_ends(parts, err)) return false;
    if (parts->embedding) find_lonely_bias(parts);
    parts->output->used = true;
    if (parts->embedding) parts->embedding->used = true;
    if (parts->output_bias) {
        parts->output_bias->used = true;
        if (!check_bias(parts, parts->output_bias, parts->output->shape[0], err)) return false;
    }
    if (parts->output->shape[0] > UINT32_MAX) return bad_shape(parts, parts->output, "which is too large", err);
    a->vocabulary_size = (uint32_t)parts->output->shape[0];
    const bool looked_up = parts->embedding || parts->foreign->scaled_ids;
    a->embedding_size = looked_up ? (uint32_t)parts->layers[0].parts[WEIGHT_IH]->shape[1] : 0;
    a->tie_weights = parts->embedding && same_memory(parts->embedding, parts->output);
    return true;
}

/* ---- what must not be left out ---- */

static bool check_nothing_left(const struct model_parts *parts, struct error *err)
{
    char list[LIST_SIZE];
    list_unused(parts->tensors, list);
    return list[0] == '\0' ||
           error_set(
               err, ERROR_INVALID,
               "%s: besides the recurrent layers, the input and the output, the model has tensors that change what "
               "it computes and are not supported: %s",
               parts->tensors->place, list);
}

static bool class_is(const struct foreign_module *module, const char *name)
{
    const char *dot = strrchr(module->class_name, '.');
    return strcmp(dot ? dot + 1 : module->class_name, name) == 0;
}

/* Modules of torch.nn without parameters that change no probability, or that only turn logits into probabilities. */
static bool is_harmless(const struct foreign_module *module)
{
    static const char *const names[] = {"Dropout",       "Softmax",    "LogSoftmax", "CrossEntropyLoss",
                                        "NLLLoss",       "Sequential", "ModuleList", "ModuleDict",
                                        "ParameterList", "Identity",   "Flatten"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (class_is(module, names[i])) return true;
    return false;
}

static bool is_layer_zero(const struct model_parts *parts, const struct foreign_module *module)
{
    const struct foreign_tensor *tensor = parts->layers[0].parts[WEIGHT_IH];
    const size_t n = prefix_length(tensor->name);
    return n == strlen(module->name) + (n > 0) && strncmp(tensor->name, module->name, strlen(module->name)) == 0;
}

/* Checks what modules tell and tensors do not. */
static bool read_modules(struct model_parts *parts, struct error *err)
{
    for (size_t i = 0; i < parts->tensors->module_count; i++) {
        const struct foreign_module *module = &parts->tensors->modules[i];
        const bool of_torch = strncmp(module->class_name, "torch.nn.", strlen("torch.nn.")) == 0;
        if (module->leaf && of_torch && !is_harmless(module))
            return error_set(err, ERROR_INVALID,
                             "%s: module \"%s\" (%s) changes what the network computes and is not "
                             "supported",
                             parts->tensors->place, module->name, module->class_name);
        if (module->relu && is_layer_zero(parts, module)) parts->architecture.activation = ACTIVATION_RELU;
    }
    return true;
}

/* ---- all of it ---- */

bool recurrent_read(struct foreign_tensors *tensors, struct foreign *foreign, struct error *err)
{
    struct model_parts *parts = arena_alloc(tensors->arena, 1, sizeof *parts, "the parts of a model", err);
    if (!parts) return false;
    parts->tensors = tensors;
    parts->foreign = foreign;
    if (!find_layers(parts, err) || !describe_ends(parts, err) || !check_nothing_left(parts, err) ||
        !read_modules(parts, err))
        return false;
    struct network layout;
    if (!network_layout(&layout, &parts->architecture, err)) return error_add_context(err, "%s", tensors->place);
    if (layout.parameter_count > INTEROP_MAX_BYTES / sizeof(float))
        return error_set(err, ERROR_TOO_LARGE, "%s: %zu parameters are more than are read", tensors->place,
                         layout.parameter_count);
    return recurrent_load_values(tensors, err) && network_open(&foreign->network, &parts->architecture, err) &&
           recurrent_read_values(parts, &foreign->network, err) &&
           (!foreign->scaled_ids || foreign_scale_ids(foreign, err));
}
