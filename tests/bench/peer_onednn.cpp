/* oneDNN as a peer of `lstmd bench` (the protocol is in cli/bench_peer.h).
 *
 * Training and stepping use oneDNN's primitives. Training: lstm forward_training and backward per layer; the output layer
 * is an inner product; each primitive chooses the memory format of its weights. oneDNN has no primitives for softmax with
 * cross-entropy and for RMSprop. They are plain loops here, which the compiler vectorises. The master weights have the
 * format of the weight gradients, so an update is one pass and two reorders. Stepping: lstm forward_inference of one step
 * per layer. Needs libdnnl-dev. Start it with OMP_PROC_BIND=true.
 *
 *   g++ -O3 -march=native -ffast-math -fopenmp tests/bench/peer_onednn.cpp -ldnnl -o peer_onednn
 */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <dnnl.hpp>
#include <omp.h>

using namespace dnnl;
using dims = memory::dims;
using tag = memory::format_tag;

static engine cpu(engine::kind::cpu, 0);
static stream queue(cpu);

static memory::desc plain(const dims &shape, tag format)
{
    return memory::desc(shape, memory::data_type::f32, format);
}

static memory zeros(const memory::desc &desc)
{
    memory m(desc, cpu);
    std::memset(m.get_data_handle(), 0, desc.get_size());
    return m;
}

static float *floats(const memory &m)
{
    return static_cast<float *>(m.get_data_handle());
}

/* A weight in the formats of its gradient (master), of the forward and of the backward pass. */
struct weight {
    memory master, square, gradient, forward, backward;

    weight() = default;
    weight(const memory::desc &gradient_desc, const memory::desc &forward_desc, const memory::desc &backward_desc,
           float scale)
        : master(zeros(gradient_desc)), square(zeros(gradient_desc)), gradient(zeros(gradient_desc)),
          forward(zeros(forward_desc)), backward(zeros(backward_desc))
    {
        std::mt19937 random(1);
        std::uniform_real_distribution<float> uniform(-scale, scale);
        for (size_t i = 0; i < count(); i++) floats(master)[i] = uniform(random);
        arrange();
    }

    size_t count() const
    {
        return master.get_desc().get_size() / sizeof(float);
    }

    void arrange()
    {
        reorder(master, forward).execute(queue, master, forward);
        reorder(master, backward).execute(queue, master, backward);
    }

    void update()
    {
        const float rate = 1e-3f, decay = 0.9f, epsilon = 1e-7f;
        float *w = floats(master), *s = floats(square), *g = floats(gradient);
        const size_t n = count();
#pragma omp parallel for simd
        for (size_t i = 0; i < n; i++) {
            s[i] = decay * s[i] + (1 - decay) * g[i] * g[i];
            w[i] -= rate * g[i] / (std::sqrt(s[i]) + epsilon);
        }
        arrange();
    }

    void clear_gradient()
    {
        std::memset(gradient.get_data_handle(), 0, gradient.get_desc().get_size());
    }
};

struct layer {
    lstm_forward forward;
    lstm_backward backward;
    weight input, recurrent, bias;
    memory x, h0, c0, y, h1, c1, workspace;
    memory dx, dh0, dc0, dy, dh1, dc1; /* dh1, dc1: zero, because the window ends there */

    layer(long T, long B, long I, long H, memory below)
    {
        const auto any_input = plain({1, 1, I, 4, H}, tag::any), any_recurrent = plain({1, 1, H, 4, H}, tag::any);
        const auto bias_desc = plain({1, 1, 4, H}, tag::ldgo), x_desc = plain({T, B, I}, tag::tnc),
                   y_desc = plain({T, B, H}, tag::tnc), state = plain({1, 1, B, H}, tag::ldnc);
        const auto direction = rnn_direction::unidirectional_left2right;
        lstm_forward::primitive_desc f({prop_kind::forward_training, direction, x_desc, state, state, any_input,
                                        any_recurrent, bias_desc, y_desc, state, state},
                                       cpu);
        lstm_backward::primitive_desc b(
            {prop_kind::backward, direction,     x_desc,    state,  state,  any_input, any_recurrent,
             bias_desc,           y_desc,        state,     state,  x_desc, state,     state,
             any_input,           any_recurrent, bias_desc, y_desc, state,  state},
            cpu, f);
        forward = lstm_forward(f);
        backward = lstm_backward(b);
        const float scale = 1 / std::sqrt(static_cast<float>(H));
        input = weight(b.diff_weights_layer_desc(), f.weights_layer_desc(), b.weights_layer_desc(), scale);
        recurrent = weight(b.diff_weights_iter_desc(), f.weights_iter_desc(), b.weights_iter_desc(), scale);
        bias = weight(bias_desc, bias_desc, bias_desc, scale);
        x = below ? below : zeros(x_desc);
        y = zeros(y_desc);
        h0 = zeros(state), c0 = zeros(state), h1 = zeros(state), c1 = zeros(state);
        workspace = memory(f.workspace_desc(), cpu);
        dx = zeros(x_desc), dy = zeros(y_desc);
        dh0 = zeros(state), dc0 = zeros(state), dh1 = zeros(state), dc1 = zeros(state);
    }

    void run_forward()
    {
        forward.execute(queue, {{DNNL_ARG_SRC_LAYER, x},
                                {DNNL_ARG_SRC_ITER, h0},
                                {DNNL_ARG_SRC_ITER_C, c0},
                                {DNNL_ARG_WEIGHTS_LAYER, input.forward},
                                {DNNL_ARG_WEIGHTS_ITER, recurrent.forward},
                                {DNNL_ARG_BIAS, bias.forward},
                                {DNNL_ARG_DST_LAYER, y},
                                {DNNL_ARG_DST_ITER, h1},
                                {DNNL_ARG_DST_ITER_C, c1},
                                {DNNL_ARG_WORKSPACE, workspace}});
    }

    void run_backward()
    {
        input.clear_gradient(), recurrent.clear_gradient(), bias.clear_gradient(); /* the primitive adds to them */
        backward.execute(queue, {{DNNL_ARG_SRC_LAYER, x},
                                 {DNNL_ARG_SRC_ITER, h0},
                                 {DNNL_ARG_SRC_ITER_C, c0},
                                 {DNNL_ARG_WEIGHTS_LAYER, input.backward},
                                 {DNNL_ARG_WEIGHTS_ITER, recurrent.backward},
                                 {DNNL_ARG_BIAS, bias.backward},
                                 {DNNL_ARG_DST_LAYER, y},
                                 {DNNL_ARG_DST_ITER, h1},
                                 {DNNL_ARG_DST_ITER_C, c1},
                                 {DNNL_ARG_WORKSPACE, workspace},
                                 {DNNL_ARG_DIFF_SRC_LAYER, dx},
                                 {DNNL_ARG_DIFF_SRC_ITER, dh0},
                                 {DNNL_ARG_DIFF_SRC_ITER_C, dc0},
                                 {DNNL_ARG_DIFF_WEIGHTS_LAYER, input.gradient},
                                 {DNNL_ARG_DIFF_WEIGHTS_ITER, recurrent.gradient},
                                 {DNNL_ARG_DIFF_BIAS, bias.gradient},
                                 {DNNL_ARG_DIFF_DST_LAYER, dy},
                                 {DNNL_ARG_DIFF_DST_ITER, dh1},
                                 {DNNL_ARG_DIFF_DST_ITER_C, dc1}});
    }

    void update()
    {
        input.update(), recurrent.update(), bias.update();
        std::swap(h0, h1), std::swap(c0, c1); /* the next window starts where this one ended */
    }
};

struct output_layer {
    inner_product_forward forward;
    inner_product_backward_data backward;
    inner_product_backward_weights backward_weights;
    weight matrix, bias;
    memory x, logits, dx; /* rows are (t, b) */

    output_layer(long rows, long H, long V, const memory &h, const memory &dh)
    {
        const auto x_desc = plain({rows, H}, tag::nc), y_desc = plain({rows, V}, tag::nc),
                   any = plain({V, H}, tag::any), bias_desc = plain({V}, tag::x);
        inner_product_forward::primitive_desc f({prop_kind::forward_training, x_desc, any, bias_desc, y_desc}, cpu);
        inner_product_backward_data::primitive_desc b({x_desc, any, y_desc}, cpu, f);
        inner_product_backward_weights::primitive_desc w({x_desc, any, bias_desc, y_desc}, cpu, f);
        forward = inner_product_forward(f);
        backward = inner_product_backward_data(b);
        backward_weights = inner_product_backward_weights(w);
        matrix = weight(w.diff_weights_desc(), f.weights_desc(), b.weights_desc(), 0.1f);
        bias = weight(bias_desc, bias_desc, bias_desc, 0.1f);
        x = memory(x_desc, cpu, h.get_data_handle());
        dx = memory(x_desc, cpu, dh.get_data_handle());
        logits = zeros(y_desc);
    }

    void run_forward()
    {
        forward.execute(queue, {{DNNL_ARG_SRC, x},
                                {DNNL_ARG_WEIGHTS, matrix.forward},
                                {DNNL_ARG_BIAS, bias.forward},
                                {DNNL_ARG_DST, logits}});
    }

    void run_backward() /* the logits now hold their gradient */
    {
        backward.execute(queue,
                         {{DNNL_ARG_DIFF_DST, logits}, {DNNL_ARG_WEIGHTS, matrix.backward}, {DNNL_ARG_DIFF_SRC, dx}});
        backward_weights.execute(queue, {{DNNL_ARG_SRC, x},
                                         {DNNL_ARG_DIFF_DST, logits},
                                         {DNNL_ARG_DIFF_WEIGHTS, matrix.gradient},
                                         {DNNL_ARG_DIFF_BIAS, bias.gradient}});
    }
};

class training
{
  public:
    training(long layer_count, long H, long vocabulary, long batch, long window)
        : V(vocabulary), rows(batch * window), inputs(static_cast<size_t>(rows)), targets(inputs)
    {
        for (long k = 0; k < layer_count; k++)
            layers.push_back(
                std::make_unique<layer>(window, batch, k == 0 ? V : H, H, k == 0 ? memory() : layers.back()->y));
        output = std::make_unique<output_layer>(rows, H, V, layers.back()->y, layers.back()->dy);
        std::mt19937 random(1);
        for (long i = 0; i < rows; i++) {
            inputs[static_cast<size_t>(i)] = static_cast<long>(random() % static_cast<unsigned long>(V));
            targets[static_cast<size_t>(i)] = static_cast<long>(random() % static_cast<unsigned long>(V));
        }
    }

    /* Mean nats per character before the update. */
    double step()
    {
        float *x = floats(layers.front()->x);
        std::memset(x, 0, layers.front()->x.get_desc().get_size());
        for (long i = 0; i < rows; i++) x[i * V + inputs[static_cast<size_t>(i)]] = 1;
        for (auto &l : layers) l->run_forward();
        output->run_forward();
        queue.wait();
        const double loss = cross_entropy();
        output->run_backward();
        for (size_t k = layers.size(); k-- > 0;) {
            layers[k]->run_backward();
            if (k > 0) layers[k - 1]->dy = layers[k]->dx;
        }
        queue.wait();
        for (auto &l : layers) l->update();
        output->matrix.update(), output->bias.update();
        queue.wait();
        return loss;
    }

    double rate(double seconds)
    {
        using clock = std::chrono::steady_clock;
        const auto start = clock::now();
        for (double steps = 1;; steps++) {
            step();
            const double taken = std::chrono::duration<double>(clock::now() - start).count();
            if (taken >= seconds) return steps * static_cast<double>(rows) / taken;
        }
    }

  private:
    /* Overwrites the logits with their gradient. */
    double cross_entropy()
    {
        float *logits = floats(output->logits);
        const float scale = 1.0f / static_cast<float>(rows);
        double loss = 0;
#pragma omp parallel for reduction(+ : loss)
        for (long i = 0; i < rows; i++) {
            float *row = logits + i * V, largest = row[0], sum = 0;
            const long target = targets[static_cast<size_t>(i)];
            for (long v = 1; v < V; v++) largest = std::max(largest, row[v]);
            const float of_target = row[target] - largest;
            for (long v = 0; v < V; v++) sum += row[v] = std::exp(row[v] - largest);
            for (long v = 0; v < V; v++) row[v] *= scale / sum;
            row[target] -= scale;
            loss += static_cast<double>(std::log(sum) - of_target);
        }
        return loss / static_cast<double>(rows);
    }

    long V, rows;
    std::vector<long> inputs, targets;
    std::vector<std::unique_ptr<layer>> layers;
    std::unique_ptr<output_layer> output;
};

/* Stepping: per layer an lstm forward_inference of one step, an inner product, and a draw by the softmax. */
class stepping
{
  public:
    stepping(long layer_count, long H, long vocabulary, long batch)
        : V(vocabulary), B(batch), tokens(static_cast<size_t>(batch)), x(zeros(plain({1, batch, vocabulary}, tag::tnc))),
          logits(zeros(plain({batch, vocabulary}, tag::nc)))
    {
        memory below = x;
        for (long k = 0; k < layer_count; k++) {
            layers.emplace_back(batch, k == 0 ? V : H, H, below);
            below = layers.back().y;
        }
        const auto h_desc = plain({batch, H}, tag::nc), any = plain({V, H}, tag::any), bias_desc = plain({V}, tag::x);
        inner_product_forward::primitive_desc o(
            {prop_kind::forward_inference, h_desc, any, bias_desc, logits.get_desc()}, cpu);
        output = inner_product_forward(o);
        matrix = random_weight(plain({V, H}, tag::oi), o.weights_desc());
        bias = random_weight(bias_desc, bias_desc);
        h = memory(h_desc, cpu, below.get_data_handle());
    }

    double rate(double seconds)
    {
        using clock = std::chrono::steady_clock;
        const auto start = clock::now();
        const long steps = std::max(1L, 16 / B);
        for (double done = static_cast<double>(steps * B);; done += static_cast<double>(steps * B)) {
            for (long i = 0; i < steps; i++) step();
            const double taken = std::chrono::duration<double>(clock::now() - start).count();
            if (taken >= seconds) return done / taken;
        }
    }

  private:
    static memory random_weight(const memory::desc &shape, const memory::desc &wanted)
    {
        memory from = zeros(shape), to = zeros(wanted);
        std::mt19937 random(1);
        std::uniform_real_distribution<float> uniform(-0.1f, 0.1f);
        for (size_t i = 0; i < shape.get_size() / sizeof(float); i++) floats(from)[i] = uniform(random);
        reorder(from, to).execute(queue, from, to);
        queue.wait();
        return to;
    }

    struct one_layer {
        lstm_forward forward;
        memory x, y, h, c, input, recurrent, bias;

        one_layer(long B, long I, long H, const memory &below)
            : x(below), y(zeros(plain({1, B, H}, tag::tnc))), h(zeros(plain({1, 1, B, H}, tag::ldnc))),
              c(zeros(plain({1, 1, B, H}, tag::ldnc)))
        {
            const auto bias_desc = plain({1, 1, 4, H}, tag::ldgo), state = h.get_desc();
            lstm_forward::primitive_desc f({prop_kind::forward_inference, rnn_direction::unidirectional_left2right,
                                            x.get_desc(), state, state, plain({1, 1, I, 4, H}, tag::any),
                                            plain({1, 1, H, 4, H}, tag::any), bias_desc, y.get_desc(), state, state},
                                           cpu);
            forward = lstm_forward(f);
            input = random_weight(plain({1, 1, I, 4, H}, tag::ldigo), f.weights_layer_desc());
            recurrent = random_weight(plain({1, 1, H, 4, H}, tag::ldigo), f.weights_iter_desc());
            bias = random_weight(bias_desc, bias_desc);
        }

        void step()
        {
            forward.execute(queue, {{DNNL_ARG_SRC_LAYER, x},
                                    {DNNL_ARG_SRC_ITER, h},
                                    {DNNL_ARG_SRC_ITER_C, c},
                                    {DNNL_ARG_WEIGHTS_LAYER, input},
                                    {DNNL_ARG_WEIGHTS_ITER, recurrent},
                                    {DNNL_ARG_BIAS, bias},
                                    {DNNL_ARG_DST_LAYER, y},
                                    {DNNL_ARG_DST_ITER, h},
                                    {DNNL_ARG_DST_ITER_C, c}});
        }
    };

    void step()
    {
        float *one_hot = floats(x);
        std::memset(one_hot, 0, x.get_desc().get_size());
        for (long b = 0; b < B; b++) one_hot[b * V + tokens[static_cast<size_t>(b)]] = 1;
        for (auto &l : layers) l.step();
        output.execute(queue,
                       {{DNNL_ARG_SRC, h}, {DNNL_ARG_WEIGHTS, matrix}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, logits}});
        queue.wait();
        for (long b = 0; b < B; b++) tokens[static_cast<size_t>(b)] = draw(floats(logits) + b * V);
    }

    long draw(float *row)
    {
        float largest = row[0], sum = 0;
        for (long v = 1; v < V; v++) largest = std::max(largest, row[v]);
        for (long v = 0; v < V; v++) sum += row[v] = std::exp(row[v] - largest);
        float rest = std::uniform_real_distribution<float>(0, sum)(generator);
        long v = 0;
        while (v < V - 1 && (rest -= row[v]) > 0) v++;
        return v;
    }

    long V, B;
    std::vector<long> tokens;
    std::vector<one_layer> layers;
    inner_product_forward output;
    memory x, h, logits, matrix, bias;
    std::minstd_rand generator;
};

/* Reuses the task of the last request if this one asks for the same. */
template <class task> class cache
{
  public:
    template <class open> double rate(const std::vector<long> &wanted, double seconds, open make)
    {
        if (wanted != shape) {
            shape = wanted;
            omp_set_num_threads(static_cast<int>(wanted.back()));
            current = make();
            current->rate(0.2); /* warm up */
        }
        return current->rate(seconds);
    }

  private:
    std::vector<long> shape;
    std::unique_ptr<task> current;
};

int main(int argc, char **argv)
{
    const version_t *version = dnnl_version();
    if (argc > 1 && std::strcmp(argv[1], "--loss") == 0) { /* checks that it learns: the loss must fall */
        training t(2, 64, 65, 8, 20);
        for (int i = 0; i < 200; i++) {
            const double loss = t.step();
            if (i % 20 == 0) std::printf("%d %.4f\n", i, loss);
        }
        return 0;
    }
    std::printf("oneDNN %d.%d.%d\n", version->major, version->minor, version->patch);
    std::fflush(stdout);
    char line[256];
    long a, b, c, d, e, f;
    double seconds;
    cache<training> trained;
    cache<stepping> stepped;
    while (std::fgets(line, sizeof line, stdin)) {
        if (std::sscanf(line, "train %ld %ld %ld %ld %ld %ld %lf", &a, &b, &c, &d, &e, &f, &seconds) == 7)
            std::printf("%.1f\n", trained.rate({a, b, c, d, e, f}, seconds,
                                               [&] { return std::make_unique<training>(a, b, c, d, e); }));
        else if (std::sscanf(line, "step %ld %ld %ld %ld %ld %lf", &a, &b, &c, &d, &e, &seconds) == 6)
            std::printf("%.1f\n", stepped.rate({a, b, c, d, e}, seconds,
                                               [&] { return std::make_unique<stepping>(a, b, c, d); }));
        else
            std::printf("skip unknown request\n");
        std::fflush(stdout);
    }
    return 0;
}
