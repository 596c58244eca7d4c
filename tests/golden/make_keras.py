#!/usr/bin/python3
"""Writes tests/golden/data/keras/*: model files in the form of several Keras versions, and the models' results.

Run with Debian's python3-h5py and python3-numpy:  /usr/bin/python3 tests/golden/make_keras.py

The script does not need Keras: it builds each file in the layout of its version. The weights are random, but the same in
every run. Only k330_new_format.h5 differs between runs, because it holds the time.
expected.json has for each file: its window, whether id 0 is masked, prompts (ids), the probabilities of the next token and
the likeliest continuation. The forward pass below computes them in float64. tests/cli/test_import_keras.py makes hostile
files with write_hostile().
"""
import io
import json
import pathlib
import zipfile

import h5py
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent / "data" / "keras"
V = 6  # vocabulary
RNG = np.random.default_rng(5)

# --- What a model is: a list of layers ---------------------------------------------------------------------------------


def recurrent(kind, units, activation="tanh", gate="sigmoid", bias=True, reset_after=False, sequences=False, cudnn=False,
              **more):
    return dict(kind=kind, units=units, activation=activation, gate=gate, bias=bias, reset_after=reset_after,
                sequences=sequences, cudnn=cudnn, more=more)


def dense(units, activation="linear", bias=True, distributed=False):
    return dict(kind="Dense", units=units, activation=activation, bias=bias, distributed=distributed)


def embedding(size, mask=False):
    return dict(kind="Embedding", size=size, mask=mask)


def plain(kind, distributed=False, **config):
    return dict(kind=kind, config=config, distributed=distributed)


def named(name, layer):
    """Gives the layer a user's name."""
    return dict(layer, given=name)


GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def make_weights(layers, vocabulary):
    """Makes the tensors of every layer, in Keras's order and layout: float32 values in float64."""
    width = vocabulary
    for layer in layers:
        random = lambda *shape: RNG.normal(0, 0.7, shape).astype(np.float32).astype(np.float64)
        layer["weights"] = []
        if layer["kind"] == "Embedding":
            layer["weights"] = [random(vocabulary, layer["size"])]
            width = layer["size"]
        elif layer["kind"] == "Dense":
            layer["weights"] = [random(width, layer["units"])] + [random(layer["units"])] * layer["bias"]
            width = layer["units"]
        elif layer["kind"] in GATES:
            columns = GATES[layer["kind"]] * layer["units"]
            shape = (2, columns) if layer["reset_after"] else (columns,)
            layer["weights"] = [random(width, columns), random(layer["units"], columns)] + [random(*shape)] * layer["bias"]
            width = layer["units"]


# --- What it computes --------------------------------------------------------------------------------------------------


def activate(name, x, version):
    if name == "hard_sigmoid":
        return np.clip(0.2 * x + 0.5 if version < 3 else x / 6 + 0.5, 0, 1)
    return {"tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "relu": lambda v: np.maximum(v, 0),
            "linear": lambda v: v, "softmax": lambda v: np.exp(v - v.max()) / np.exp(v - v.max()).sum()}[name](x)


def recur(layer, inputs, version):
    """Returns the outputs of all steps. The equations are those of the documentation of Keras's layers."""
    n, kind = layer["units"], layer["kind"]
    kernel, back = layer["weights"][:2]
    bias = layer["weights"][2] if layer["bias"] else np.zeros((2 if layer["reset_after"] else 1) * GATES[kind] * n)
    f = lambda x: activate(layer["activation"], x, version)
    s = lambda x: activate(layer["gate"], x, version)
    h, c, outputs = np.zeros(n), np.zeros(n), []
    for x in inputs:
        if kind == "SimpleRNN":
            h = f(x @ kernel + h @ back + bias)
        elif kind == "LSTM":
            i, g, candidate, o = np.split(x @ kernel + h @ back + bias, 4)
            c = s(g) * c + s(i) * f(candidate)
            h = s(o) * f(c)
        elif layer["reset_after"]:
            b_in, b_back = bias.reshape(2, -1)
            xz, xr, xh = np.split(x @ kernel + b_in, 3)
            hz, hr, hh = np.split(h @ back + b_back, 3)
            z, r = s(xz + hz), s(xr + hr)
            h = z * h + (1 - z) * f(xh + r * hh)
        else:
            xz, xr, xh = np.split(x @ kernel + bias, 3)
            bz, br, bh = np.split(back, 3, axis=1)
            z, r = s(xz + h @ bz), s(xr + h @ br)
            h = z * h + (1 - z) * f(xh + (r * h) @ bh)
        outputs.append(h)
    return outputs


def predict(layers, ids, version, vocabulary=V):
    x = list(np.eye(vocabulary)[ids])
    for layer in layers:
        kind = layer["kind"]
        if kind == "Embedding":
            x = list(layer["weights"][0][ids])
        elif kind in GATES:
            x = recur(layer, x, version)
        elif kind == "Dense":
            x = [activate(layer["activation"], v @ layer["weights"][0] + sum(layer["weights"][1:]), version) for v in x]
        elif kind in ("Activation", "Softmax"):
            x = [activate(layer["config"].get("activation", "softmax"), v, version) for v in x]
    logits_are_left = not any("softmax" in (layer.get("activation"), layer.get("config", {}).get("activation"))
                              or layer["kind"] == "Softmax" for layer in layers)
    return activate("softmax", x[-1], version) if logits_are_left else x[-1]


# --- How versions of Keras describe it ----------------------------------------------------------------------------------


def snake(kind):
    return {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn", "TimeDistributed": "time_distributed",
            "InputLayer": "input_layer", "CuDNNLSTM": "cu_dnnlstm", "CuDNNGRU": "cu_dnngru",
            "SpatialDropout1D": "spatial_dropout1d"}.get(kind, kind.lower())


def class_of(layer):
    return "CuDNN" + layer["kind"] if layer.get("cudnn") == "class" else layer["kind"]


def name_layers(layers, first):
    """Returns Keras's names: lstm_1, lstm_2 (Keras 2.0 to 2.2) or lstm, lstm_1. A user's name replaces both."""
    counts = {}
    for layer in layers:
        stem = "time_distributed" if layer.get("distributed") else snake(class_of(layer))
        k = counts[stem] = counts.get(stem, first - 1) + 1
        layer["name"], layer["stem"] = layer.get("given", f"{stem}_{k}" if k else stem), stem


def wrap(version, kind, config, module="keras.layers"):
    if version < 3:
        return {"class_name": kind, "config": config}
    return {"module": module, "class_name": kind, "config": config, "registered_name": None,
            "build_config": {"input_shape": [None, 5, V]}}


def dtype(version):
    if version < 3:
        return "float32"
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def configure(layer, version):
    kind, config = layer["kind"], {"name": layer["name"], "trainable": True, "dtype": dtype(version)}
    if kind == "Embedding":
        config.update(input_dim=V, output_dim=layer["size"], mask_zero=layer["mask"])
    elif kind in GATES:
        config.update(units=layer["units"], return_sequences=layer["sequences"], return_state=False, go_backwards=False,
                      **{"stateful": False, **layer["more"]})
        if not layer["cudnn"] == "class":
            config.update(activation=layer["activation"], use_bias=layer["bias"], dropout=0.1)
            if kind != "SimpleRNN":
                config["recurrent_activation"] = layer["gate"]
            if kind == "GRU" and layer["reset_after"] | (version > 2.1):
                config["reset_after"] = layer["reset_after"]
    elif kind == "Dense":
        config.update(units=layer["units"], activation=layer["activation"], use_bias=layer["bias"])
    else:
        config.update(layer["config"])
    described = wrap(version, class_of(layer), config)
    if layer.get("distributed"):
        config["name"] = snake(kind)
        described = wrap(version, "TimeDistributed", {"name": layer["name"], "trainable": True, "layer": described})
    return described


def sequential(layers, version, style="dict", window=5, name="sequential"):
    described = [configure(layer, version) for layer in layers]
    shape = [None, window] + ([] if layers[0]["kind"] == "Embedding" else [V])
    if style == "input":
        key = "batch_shape" if version >= 3 else "batch_input_shape"
        described.insert(0, wrap(version, "InputLayer", {key: shape, "dtype": "float32", "name": "input_layer"}))
    else:
        described[0]["config"]["batch_input_shape"] = shape
    return {"class_name": "Sequential", "config": described if style == "list" else {"name": name, "layers": described}}


def tensor(name):
    return {"class_name": "__keras_tensor__", "config": {"shape": [None, 5], "dtype": "float32",
                                                         "keras_history": [name, 0, 0]}}


def functional(layers, version, window=5):
    """Describes a chain by its connections. In Keras 3, a layer NotEqual makes the mask."""
    shape = [None, window] + ([] if layers[0]["kind"] == "Embedding" else [V])
    key = "batch_shape" if version >= 3 else "batch_input_shape"
    described = [dict(wrap(version, "InputLayer", {key: shape, "name": "input_1"}), name="input_1", inbound_nodes=[])]
    previous = "input_1"
    for layer in layers:
        entry = dict(configure(layer, version), name=layer["name"])
        if version < 3:
            entry["inbound_nodes"] = [[[previous, 0, 0, {}]]]
        else:
            mask = {"mask": tensor("not_equal")} if layer["kind"] in GATES and layers[0].get("mask") else {}
            entry["inbound_nodes"] = [{"args": [tensor(previous)], "kwargs": {"training": False, **mask}}]
        described.append(entry)
        previous = layer["name"]
    if version >= 3:
        described.insert(1, dict(wrap(version, "NotEqual", {"name": "not_equal"}, "keras.src.ops.numpy"), name="not_equal",
                              inbound_nodes=[{"args": [tensor("input_1"), 0], "kwargs": {}}]))
    return {"class_name": "Functional" if version > 2.2 else "Model",
            "config": {"name": "model", "layers": described, "input_layers": [["input_1", 0, 0]],
                       "output_layers": [[previous, 0, 0]]}}


# --- How they keep weights ------------------------------------------------------------------------------------------------


def to_cudnn(layer):
    """Converts Keras's layout into CuDNN's, as Keras does."""
    gates = GATES[layer["kind"]]
    each = lambda kernel, change: np.hstack([change(k) for k in np.hsplit(kernel, gates)])
    kernel, back, bias = layer["weights"]
    kernel = each(kernel, lambda k: k.T.reshape(k.shape, order="C"))
    if layer["kind"] == "LSTM":
        half = RNG.normal(0, 1, bias.shape)
        return [kernel, each(back, lambda k: k.T), np.concatenate([half, bias - half])]
    return [kernel, each(back, lambda k: k.T), bias.reshape(-1)]


def stored(layer):
    return to_cudnn(layer) if layer.get("cudnn") else layer["weights"]


def variables(layer):
    if layer["kind"] == "Embedding":
        return ["embeddings"]
    return ["kernel", "recurrent_kernel", "bias"] if layer["kind"] in GATES else ["kernel", "bias"]


def write_h5(file, layers, config, version, path="{name}/{variable}:0", text="fixed", dtype="<f4", split=0):
    """path: names of variables below their layer's group. text: fixed or variable length. split: number of texts per
    attribute; Keras splits attributes of models with very many layers."""
    encode = (lambda t: np.bytes_(t.encode())) if text == "fixed" else str
    file.attrs["model_config"] = encode(json.dumps(config))
    file.attrs["keras_version"] = encode(version)
    file.attrs["backend"] = encode("tensorflow")
    group = file.create_group("model_weights")
    names = lambda texts: ([t.encode() for t in texts] if text == "fixed" else
                           np.array(texts, dtype=h5py.string_dtype()) if texts else [])
    group.attrs["layer_names"] = names([layer["name"] for layer in layers])
    group.attrs["keras_version"] = encode(version)
    for layer in sorted(layers, key=lambda layer: layer["name"]):
        own = group.create_group(layer["name"])
        texts = [path.format(name=layer["name"], variable=v, cell=snake(layer["kind"]) + "_cell/" if layer["kind"] in GATES
                             else "") for v in variables(layer)[: len(layer["weights"])]]
        if split:
            for i in range(0, len(texts), split):
                own.attrs[f"weight_names{i // split}"] = names(texts[i : i + split])
        if not split or not texts:
            own.attrs["weight_names"] = names(texts)
        for name, value in zip(texts, stored(layer)):
            own.create_dataset(name, data=value.astype(dtype))
    group.create_group("top_level_model_weights").attrs["weight_names"] = np.asarray([])
    optimizer = file.create_group("optimizer_weights")
    optimizer.attrs["weight_names"] = [b"Adam/m/kernel:0"]
    optimizer.create_dataset("Adam/m/kernel:0", data=np.full((2, 2), np.nan, "<f4"))


def archive_weights(layers, base="layers"):
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        count = {}
        for layer in layers:
            stem = layer["stem"]
            number = count.get(stem, 0)
            # Before Keras 3, a layer with weights occurs twice in the container. The second one is not written again.
            count[stem] = number + (2 if base != "layers" and layer["weights"] else 1)
            group = file.create_group(f"{base}/{stem}_{number}" if number else f"{base}/{stem}")
            group.create_group("vars")
            inside = "layer/" if layer.get("distributed") else "cell/" if layer["kind"] in GATES else ""
            for i, value in enumerate(stored(layer)):
                group[f"{inside}vars/{i}"] = value.astype("<f4")
            if inside == "cell/":
                group["cell/seed_generator/vars/0"] = np.array([1, 2], "<u4")
        file.create_group("optimizer/vars")["0"] = np.int64(7)
    return image.getvalue()


def write_archive(target, layers, config, version, base="layers", weights=None):
    with zipfile.ZipFile(target, "w") as archive:
        entry = lambda name: zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        archive.writestr(entry("metadata.json"), json.dumps({"keras_version": version, "date_saved": "2026-01-01@00:00:00"}))
        archive.writestr(entry("config.json"), json.dumps(config))
        archive.writestr(entry("model.weights.h5"), archive_weights(layers, base) if weights is None else weights)


# --- The variants -----------------------------------------------------------------------------------------------------------

VARIANTS = {
    # name: (version, layers, form of the configuration, form of the weights)
    "k208_lstm_list.h5": ("2.0.8", [recurrent("LSTM", 4, gate="hard_sigmoid"), plain("Dropout", rate=0.2), dense(V, "softmax")],
                          dict(style="list"), {}),
    "k224_masking_lstm_distributed.h5": ("2.2.4", [plain("Masking", mask_value=0.0), recurrent("LSTM", 4, sequences=True),
                                                   dense(V, "softmax", distributed=True)], {}, {}),
    "k224_gru_reset_before.h5": ("2.2.4", [recurrent("GRU", 4, gate="hard_sigmoid"), dense(V), plain("Activation", activation="softmax")],
                                 {}, {}),
    "k224_gru_no_bias.h5": ("2.2.4", [recurrent("GRU", 3, bias=False), dense(V, "softmax", bias=False)], {}, {}),
    "k224_cudnnlstm.h5": ("2.2.4", [embedding(3), recurrent("LSTM", 4, cudnn="class", sequences=True),
                                    recurrent("LSTM", 4, cudnn="class"), dense(V, "softmax")], {}, {}),
    "k224_cudnngru.h5": ("2.2.4", [recurrent("GRU", 4, cudnn="class", reset_after=True), dense(V, "softmax")], {}, {}),
    "k241_lstm_of_cudnn.h5": ("2.4.0", [recurrent("LSTM", 3, cudnn="weights"), dense(V, "softmax")], {}, {}),
    "k240_embedding_two_sizes.h5": ("2.4.0", [embedding(3, mask=True), recurrent("LSTM", 5, sequences=True),
                                              plain("SpatialDropout1D", rate=0.1), recurrent("LSTM", 3, sequences=True, stateful=True),
                                              dense(V)], dict(style="input"),
                                    dict(path="{name}/{cell}{variable}:0", text="variable")),
    "k240_gru_reset_after.h5": ("2.4.0", [recurrent("GRU", 4, reset_after=True), dense(V, "softmax")], dict(style="input"),
                                dict(path="{name}/{cell}{variable}:0", text="variable")),
    "k240_gru_reset_after_no_bias.h5": ("2.4.0", [recurrent("GRU", 3, reset_after=True, bias=False), dense(V, "softmax")],
                                        dict(style="input"), dict(path="{name}/{cell}{variable}:0")),
    "k230_rnn_relu_stateful.h5": ("2.3.1", [recurrent("SimpleRNN", 4, activation="relu", stateful=True, unroll=True), dense(V, "softmax")],
                                  {}, dict(split=2)),
    "k250_functional.h5": ("2.5.0", [embedding(4), recurrent("GRU", 3, gate="hard_sigmoid", reset_after=True, sequences=True),
                                     recurrent("GRU", 3, gate="hard_sigmoid", reset_after=True), dense(5, "relu"), dense(V, "softmax")],
                           dict(functional=True), dict(path="{name}/{cell}{variable}:0", text="variable")),
    "k224_functional.h5": ("2.1.6", [recurrent("LSTM", 3), dense(V, "softmax")], dict(functional=True), {}),
    "k330_legacy.h5": ("3.3.3", [recurrent("LSTM", 4, gate="hard_sigmoid"), dense(V, "softmax")], dict(style="input"),
                       dict(path="sequential/{name}/{cell}{variable}", text="variable")),
    "k330_float64.h5": ("3.3.3", [recurrent("SimpleRNN", 4, activation="sigmoid"), dense(V, "softmax")], dict(style="input"),
                        dict(path="sequential/{name}/{cell}{variable}", text="variable", dtype=">f8")),
    "k330_new_format.h5": ("3.3.3", [embedding(2), recurrent("LSTM", 3), dense(V, "softmax")], dict(style="input"),
                           dict(path="sequential/{name}/{cell}{variable}", text="variable",
                                format=dict(libver="latest", track_order=True))),
    "k392_two_lstm_dense.keras": ("3.9.2", [recurrent("LSTM", 3, sequences=True), plain("Dropout", rate=0.2), recurrent("LSTM", 4),
                                            plain("GaussianNoise", stddev=0.1), dense(4), plain("Activation", activation="relu"),
                                            dense(V), plain("Softmax", axis=-1)], dict(style="input"), {}),
    "k392_gru_distributed.keras": ("3.9.2", [embedding(3), recurrent("GRU", 3, reset_after=True, sequences=True),
                                             plain("GaussianDropout", rate=0.1), dense(4, "tanh", distributed=True),
                                             dense(V, "softmax", distributed=True)], dict(style="input"), {}),
    "k392_functional_mask.keras": ("3.9.2", [embedding(3, mask=True), recurrent("LSTM", 4, sequences=True), recurrent("LSTM", 4),
                                             dense(V)], dict(functional=True), {}),
    "k392_linear_rnn.keras": ("3.9.2", [recurrent("SimpleRNN", 3, activation="linear"), dense(V, "softmax")], dict(style="input"), {}),
    "k392_lstm_sigmoid_relu.keras": ("3.9.2", [recurrent("LSTM", 3, activation="relu", gate="hard_sigmoid"), plain("AlphaDropout", rate=0.1),
                                               dense(3, "sigmoid"), dense(V, "softmax")], dict(style="input"), {}),
    "k213_two_lstm.keras": ("2.13.1", [recurrent("LSTM", 3, gate="hard_sigmoid", sequences=True), plain("Dropout", rate=0.2),
                                       recurrent("LSTM", 3, gate="hard_sigmoid"), dense(4, "relu"), dense(V, "softmax")],
                            dict(style="input"), dict(base="_layer_checkpoint_dependencies")),
    # Users' names. In archives: the names of the other layer of the class.
    "k224_named_layers.h5": ("2.2.4", [named("reader", recurrent("LSTM", 3, activation="hard_sigmoid", sequences=True)),
                                       named("top/one", recurrent("LSTM", 4, activation="hard_sigmoid")),
                                       named("hidden", dense(5, "hard_sigmoid")), named("next_char", dense(V, "softmax"))], {}, {}),
    "k392_named_layers.keras": ("3.9.2", [plain("Masking", mask_value=0.0), named("lstm_1", recurrent("LSTM", 3, sequences=True)),
                                          plain("ActivityRegularization", l1=0.1), named("lstm", recurrent("LSTM", 3)),
                                          named("dense_1", dense(5, "hard_sigmoid")), named("dense", dense(V, "softmax"))],
                                dict(style="input"), {}),
    "k350_functional.h5": ("3.5.0", [embedding(3), recurrent("GRU", 4, gate="hard_sigmoid", reset_after=True, sequences=True),
                                     recurrent("GRU", 3, gate="hard_sigmoid", reset_after=True), dense(V, "softmax")],
                           dict(functional=True), dict(path="functional/{name}/{cell}{variable}", text="variable")),
}


def build(version, layers, configuration, vocabulary=V):
    major = float(".".join(version.split(".")[:2]))
    name_layers(layers, 1 if version < "2.3" else 0)
    make_weights(layers, vocabulary)
    return functional(layers, major) if configuration.get("functional") else sequential(layers, major, **configuration)


def write(target, version, layers, config, how):
    if str(target).endswith(".keras"):
        write_archive(target, layers, config, version, **how)
        return
    how = dict(how)
    with h5py.File(target, "w", **how.pop("format", {})) as file:
        write_h5(file, layers, config, version, **how)


def write_variant(target, name):
    """Writes the file of a variant and gives its layers their weights."""
    version, layers, configuration, how = VARIANTS[name]
    write(target, version, layers, build(version, layers, configuration), how)


GREEDY = 20


def continue_greedily(layers, ids, version):
    """Returns the likeliest ids that follow. Stops before the first choice that float32 might make differently."""
    written = []
    while len(written) < GREEDY:
        probabilities = predict(layers, ids + written, version)
        second, best = np.argsort(probabilities)[-2:]
        if probabilities[best] - probabilities[second] < 1e-4:
            break
        written.append(int(best))
    assert len(written) >= GREEDY // 2, "a tie: choose another seed"
    return written


def write_variants():
    expected = {}
    for name, (version, layers, _, _) in VARIANTS.items():
        write_variant(HERE / name, name)
        prompts = [[1], [2, 5, 1, 3], RNG.integers(1, V, 12).tolist()]
        expected[name] = {"window": 5, "masked": bool(layers[0].get("mask")), "prompts": [
            {"ids": ids, "probs": predict(layers, ids, int(version[0])).round(12).tolist(),
             "greedy": continue_greedily(layers, ids, int(version[0]))} for ids in prompts]}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


# --- The notebook that lstmd starts from ---


NOTEBOOK_TOKENS = ["<eos>", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;-'!?$%&()/\"+#*@="][:83]


def write_notebook(directory):
    """Writes model.h5 (Masking, LSTM 128, Dense softmax over 84) and tokenizer.json (a Tokenizer of characters; <eos> is 1
    and padding is 0). The weights make padding the likeliest token everywhere. Returns the layers."""
    layers = [plain("Masking", mask_value=0.0), recurrent("LSTM", 128, sequences=True), dense(84, "softmax")]
    config = build("2.2.4", layers, {}, 84)
    for tensor_of in layers[1:]:
        tensor_of["weights"] = [(0.4 * value).astype("<f4").astype(float) for value in tensor_of["weights"]]
    layers[2]["weights"][1][0] = 5
    write(directory / "model.h5", "2.2.4", layers, config, {})
    index = {character: i for i, character in enumerate(NOTEBOOK_TOKENS, 1)}
    (directory / "tokenizer.json").write_text(json.dumps({"class_name": "Tokenizer", "config": {
        "num_words": None, "filters": "", "lower": False, "split": " ", "char_level": True, "oov_token": None,
        "document_count": 1, "word_counts": json.dumps({c: 1 for c in index}), "word_docs": "{}", "index_docs": "{}",
        "index_word": json.dumps({i: c for c, i in index.items()}), "word_index": json.dumps(index)}}))
    return layers


# --- Hostile files ------------------------------------------------------------------------------------------------------------


def write_hostile(directory):
    """Writes hostile files into the directory. Returns what lstmd must say when it refuses each."""
    says = {}

    def case(name, fragment, spoil, extra=()):
        layers = [recurrent("LSTM", 2), dense(V, "softmax")]
        config = build("2.4.0", layers, {})
        with h5py.File(directory / name, "w") as file:
            write_h5(file, layers, config, "2.4.0")
            group = file["model_weights/lstm"]
            spoil(file, group)
        says[name] = fragment

    kernel = "lstm/kernel:0"

    def replace(group, **how):
        data = group[kernel][:]
        del group[kernel]
        return group.create_dataset(kernel, data=data, **how) if how else data

    def virtual(_, group):
        data = replace(group)
        layout = h5py.VirtualLayout(shape=data.shape, dtype="<f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=data.shape)
        group.create_virtual_dataset(kernel, layout)

    def link(target):
        def spoil(_, group):
            replace(group)
            group[kernel] = target
        return spoil

    def huge(_, group):
        replace(group)
        space = h5py.h5s.create_simple((1 << 20, 1 << 20))
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        h5py.h5d.create(group["lstm"].id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, plan)

    def external(_, group):
        replace(group)
        group.create_dataset(kernel, shape=(V, 8), dtype="<f4", external=[("/etc/passwd", 0, 4 * V * 8)])

    def cycle(file, group):
        group["lstm/again"] = file["model_weights"]
        group.attrs["weight_names"] = [b"lstm/again/lstm/lstm/again/lstm/lstm/again/lstm", b"x", b"y"]

    def not_finite(_, group):
        group["lstm/bias:0"][3] = np.nan

    def names(*texts):
        def spoil(_, group):
            group.attrs["weight_names"] = list(texts)
        return spoil

    case("compressed.h5", "chunked, compressed", lambda _, g: replace(g, chunks=(V, 8), compression="gzip"))
    case("chunked.h5", "chunked, compressed", lambda _, g: replace(g, chunks=(2, 2)))
    case("virtual.h5", "not all in this file", virtual)
    case("external.h5", "not all in this file", external)
    case("external_link.h5", "not a hard link", link(h5py.ExternalLink("/etc/passwd", "/x")))
    case("soft_link.h5", "not a hard link", link(h5py.SoftLink("/model_weights/dense/dense/kernel:0")))
    case("huge.h5", "not all in this file", huge)
    case("cycle.h5", "is not a tensor", cycle)
    case("nan.h5", "weights must be finite", not_finite)
    case("integers.h5", "not a tensor of float32 or float64", lambda _, g: g.create_dataset(kernel, data=replace(g).astype("<i4")))
    case("wrong_shape.h5", "layer \"lstm\" (LSTM): tensor 1 is [2, 9]",
         lambda _, g: (g.__delitem__("lstm/recurrent_kernel:0"), g.create_dataset("lstm/recurrent_kernel:0", data=np.zeros((2, 9), "<f4"))))
    case("one_number.h5", "it reads 1 number per step, but the model predicts 6 tokens",
         lambda _, g: (replace(g), g.create_dataset(kernel, data=np.zeros((1, 8), "<f4"))))
    case("one_tensor_twice.h5", "its weight_names have a tensor twice", names(kernel.encode(), kernel.encode(), b"lstm/bias:0"))
    case("many_names.h5", "not text, or longer than the file",
         lambda _, g: g.attrs.__setitem__("weight_names", np.full(5000, b"x")))
    case("two_names.h5", "the file has 2 tensors for it, but its configuration asks for 3", names(kernel.encode(), b"lstm/bias:0"))
    case("long_name.h5", "too long", names(b"x/" * 900, b"a", b"b"))
    case("unknown_name.h5", "there is no model_weights/lstm/../../x", names(b"../../x", b"a", b"b"))
    case("number_for_config.h5", "an attribute is not text", lambda f, _: f.attrs.__setitem__("model_config", 7))
    case("config_is_not_json.h5", "not valid JSON", lambda f, _: f.attrs.__setitem__("model_config", "{"))
    case("weights_alone.h5", "save all of it", lambda f, _: f.attrs.__delitem__("model_config"))
    case("keras0.h5", "Keras 1.0 and later", lambda f, _: f.attrs.__setitem__("keras_version", "0.3.3"))
    case("no_weights.h5", "there is no model_weights", lambda f, _: f.__delitem__("model_weights"))

    layers = [recurrent("LSTM", 2), dense(V, "softmax")]
    config = build("3.9.2", layers, dict(style="input"))
    with zipfile.ZipFile(directory / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.2"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", bytes(24 << 20))
    says["bomb.keras"] = "model.weights.h5"
    write_archive(directory / "not_hdf5.keras", layers, config, "3.9.2", weights=b"x" * 100)
    says["not_hdf5.keras"] = "not an HDF5 file"
    write_archive(directory / "other_layers.keras", layers[:1], config, "3.9.2")
    says["other_layers.keras"] = "there is no layers/dense"
    whole = (HERE / "k224_cudnngru.h5").read_bytes()
    (directory / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    says["truncated.h5"] = "truncated"
    return says


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    write_variants()
