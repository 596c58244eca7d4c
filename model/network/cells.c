#include "model/network/cells.h"

#include <string.h>

#include "model/kernels/kernels.h"
#include "model/network/plain_step.h"

/* The operands that all cells have; rows follow one another in memory. */
#define ROWS(count)                                                                                                    \
    .M = rows->n, .blocks = blocks, .ldg = (count)*blocks * KERNEL_BLOCK, .ldh = blocks * KERNEL_BLOCK,                \
    .gates = rows->gates_x

/* ---- LSTM ---- */

static void lstm_step(const struct kernels *kernels, const struct kernel_step *step)
{
    kernels->lstm_step(step);
}

static void lstm_forward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows)
{
    kernels->lstm_forward(&(struct kernel_cell){ROWS(4), .c_previous = rows->c_previous, .c = rows->c, .h = rows->h});
}

static void lstm_backward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows, const float *dh,
                          float *dc)
{
    kernels->lstm_backward(
        &(struct kernel_cell){ROWS(4), .c_previous = rows->c_previous, .c = rows->c, .dh = dh, .dc = dc});
}

/* ---- GRU ---- */

static void gru_step(const struct kernels *kernels, const struct kernel_step *step)
{
    kernels->gru_step(step);
}

static void gru_forward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows)
{
    kernels->gru_forward(
        &(struct kernel_cell){ROWS(3), .gates_h = rows->gates_h, .h_previous = rows->h_previous, .h = rows->h});
}

static void gru_backward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows, const float *dh,
                         float *dc)
{
    kernels->gru_backward(&(struct kernel_cell){ROWS(3), .gates_h = rows->gates_h, .h_previous = rows->h_previous,
                                                .dh = dh, .dh_previous = dc});
}

/* ---- RNN ---- */

static void rnn_step(const struct kernels *kernels, const struct kernel_step *step)
{
    kernels->rnn_step(step);
}

static void rnn_forward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows)
{
    kernels->rnn_forward(&(struct kernel_cell){ROWS(1), .h = rows->h});
}

static void rnn_backward(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows, const float *dh,
                         float *dc)
{
    (void)dc;
    kernels->rnn_backward(&(struct kernel_cell){ROWS(1), .dh = dh});
}

/* ---- the table ---- */

const struct cell cell_table[CELL_COUNT] = {
    [CELL_LSTM] = {.name = "lstm",
                   .gates = 4,
                   .gate_names = "ifgo",
                   .states = 2,
                   .gated = true,
                   .forget_gate = 1,
                   .torch = "LSTM",
                   .keras = {.class = "LSTM", /* i f c o; Keras 1: i c f o */
                             .name = "lstm",
                             .inside = "lstm_cell/",
                             .cudnn_class = "CuDNNLSTM",
                             .cudnn_name = "cu_dnnlstm",
                             .order = {0, 1, 2, 3},
                             .order_of_keras1 = {0, 2, 1, 3}},
                   .plain = {.last = plain_lstm},
                   .step = lstm_step,
                   .input_order = {0, 1, 2, 3},
                   .forward = lstm_forward,
                   .backward = lstm_backward},
    [CELL_GRU] = {.name = "gru",
                  .gates = 3,
                  .gate_names = "rzn",
                  .states = 1,
                  .gated = true,
                  .mixes = true,
                  .apart = true,
                  .may_reset_before = true,
                  .forget_gate = -1,
                  .torch = "GRU",
                  .keras = {.class = "GRU", /* z r h */
                            .name = "gru",
                            .inside = "gru_cell/",
                            .cudnn_class = "CuDNNGRU",
                            .cudnn_name = "cu_dnngru",
                            .order = {1, 0, 2},
                            .order_of_keras1 = {1, 0, 2}},
                  .plain = {.last = plain_gru},
                  .plain_reset_before = {.first_gates = 2, .first = plain_gru_reset, .last = plain_gru_after_reset},
                  .step = gru_step,
                  .input_order = {2, 0, 1}, /* n r z; the hidden product's n is q */
                  .forward = gru_forward,
                  .backward = gru_backward},
    [CELL_RNN] = {.name = "rnn",
                  .gates = 1,
                  .gate_names = "h",
                  .states = 1,
                  .forget_gate = -1,
                  .torch = "RNN",
                  .keras = {.class = "SimpleRNN", .name = "simple_rnn", .inside = "simple_rnn_cell/"},
                  .plain = {.last = plain_rnn},
                  .step = rnn_step,
                  .forward = rnn_forward,
                  .backward = rnn_backward},
};

const char *const cell_trained_names[] = {"lstm", "gru", "rnn", NULL};

const char *cell_name(enum cell_kind cell)
{
    return cell_table[cell].name;
}

bool cell_parse(const char *name, enum cell_kind *cell)
{
    for (size_t i = 0; i < CELL_COUNT; i++) {
        if (strcmp(name, cell_table[i].name) != 0) continue;
        *cell = (enum cell_kind)i;
        return true;
    }
    return false;
}
