#!/usr/bin/python3
"""Trains the seed notebook's network in PyTorch. `lstmd train` must reach the same loss on the same text.

One LSTM of 128 units, one-hot input, dense softmax output, RMSprop at 1e-3 (Keras's defaults: decay 0.9, epsilon 1e-7),
no clipping, 8 whole titles per batch. Every title is a sequence of its own: it starts from a zero state with <eos> and
must predict its <eos>. The titles of a batch differ in length. The loss leaves out the positions after the shorter ones,
so it is the mean over real tokens. After each epoch the script prints the training loss and, for the validation titles,
nats per character (all targets, <eos> included, divided by the number of characters of the text) and nats per token.

Run (Debian's python3-torch):

    OMP_NUM_THREADS=1 /usr/bin/python3 tests/golden/notebook_torch.py --data ../shared/data/ag_news

Train the same network with lstmd. lstmd packs the titles into 8 streams without padding. So "8 titles per batch" means 8
streams with a window of a title's mean length (43 tokens: the same number of updates per epoch):

    build/lstmd train --data ../shared/data/ag_news/titles.train.txt \\
        --validation-data ../shared/data/ag_news/titles.valid.txt --format lines --out /tmp/notebook \\
        --cell lstm --layers 1 --hidden 128 --batch 8 --bptt 43 --epochs 10 --threads 1 \\
        --optimizer rmsprop --lr 1e-3 --epsilon 1e-7 --clip 0 --schedule constant --seed 1

After the same number of epochs the two validation losses must agree within 2 %. Measured after 10 epochs, in nats per
character of titles.valid.txt: PyTorch 2.085, 2.092 (seeds 1, 2) and 2.092 (Keras's initialisation); lstmd 2.087, 2.090.
"""
import argparse
import math
import os
import time

import torch
from torch import nn
from torch.nn import functional

HIDDEN = 128
EOS = 0


def read_titles(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        lines = [line.rstrip("\n").removesuffix("\r") for line in file]
    return [line for line in lines if line]


def build_vocabulary(titles):
    counts = {}
    for title in titles:
        for character in title:
            counts[character] = counts.get(character, 0) + 1
    tokens = ["<eos>"] + sorted(counts, key=lambda character: -counts[character])
    return {token: index for index, token in enumerate(tokens)}


def encode(titles, vocabulary):
    """Returns <eos> title <eos> without the characters that training never saw."""
    return [torch.tensor([EOS] + [vocabulary[c] for c in title if c in vocabulary] + [EOS]) for title in titles]


class Network(nn.Module):
    def __init__(self, vocabulary_size, initialiser):
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.lstm = nn.LSTM(vocabulary_size, HIDDEN)
        self.output = nn.Linear(HIDDEN, vocabulary_size)
        with torch.no_grad():
            # One bias, as in Keras and lstmd. PyTorch's second bias stays zero, and no step trains it.
            self.lstm.bias_hh_l0.zero_()
            self.lstm.bias_hh_l0.requires_grad = False
            if initialiser != "torch":
                self.initialise(per_gate=initialiser == "lstmd")

    def initialise(self, per_gate):
        """Glorot uniform kernels, orthogonal recurrent kernel, forget bias 1. Keras initialises the four gates as one
        matrix. lstmd (network.h) initialises each gate by itself."""
        blocks_ih = self.lstm.weight_ih_l0.split(HIDDEN) if per_gate else [self.lstm.weight_ih_l0]
        blocks_hh = self.lstm.weight_hh_l0.split(HIDDEN) if per_gate else [self.lstm.weight_hh_l0]
        for block in blocks_ih:
            nn.init.xavier_uniform_(block)
        for block in blocks_hh:
            nn.init.orthogonal_(block)
        self.lstm.bias_ih_l0.zero_()
        self.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 1.0
        nn.init.xavier_uniform_(self.output.weight)
        self.output.bias.zero_()

    def forward(self, inputs):
        hidden, _ = self.lstm(functional.one_hot(inputs, self.vocabulary_size).to(torch.float32))
        return self.output(hidden)


def total_nats(network, batch):
    """Returns the summed loss of the real tokens of a list of documents, and the number of these tokens."""
    inputs = nn.utils.rnn.pad_sequence([document[:-1] for document in batch])
    targets = nn.utils.rnn.pad_sequence([document[1:] for document in batch], padding_value=-1)
    logits = network(inputs)
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
    return nats, sum(len(document) - 1 for document in batch)


def train_epoch(network, optimizer, documents, batch_size):
    total, count = 0.0, 0
    order = torch.randperm(len(documents)).tolist()
    for start in range(0, len(order), batch_size):
        nats, tokens = total_nats(network, [documents[i] for i in order[start : start + batch_size]])
        optimizer.zero_grad()
        (nats / tokens).backward()
        optimizer.step()
        total += nats.item()
        count += tokens
    return total / count


@torch.no_grad()
def validate(network, documents):
    total, count = 0.0, 0
    ordered = sorted(documents, key=len)
    for start in range(0, len(ordered), 100):
        nats, tokens = total_nats(network, ordered[start : start + 100])
        total += nats.item()
        count += tokens
    return total, count


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("LSTMD_SHARED", "../shared")
    parser.add_argument("--data", default=os.path.join(shared, "data/ag_news"), help="directory of titles.*.txt")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--initialiser", choices=["lstmd", "keras", "torch"], default="lstmd")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    train_titles = read_titles(os.path.join(arguments.data, "titles.train.txt"))
    valid_titles = read_titles(os.path.join(arguments.data, "titles.valid.txt"))
    vocabulary = build_vocabulary(train_titles)
    train, valid = encode(train_titles, vocabulary), encode(valid_titles, vocabulary)
    characters = sum(len(title) for title in valid_titles)
    unknown = characters - sum(len(document) - 2 for document in valid)

    network = Network(len(vocabulary), arguments.initialiser)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.RMSprop(trained, lr=arguments.rate, alpha=0.9, eps=1e-7)
    print(f"torch {torch.__version__} threads {arguments.threads} seed {arguments.seed} "
          f"initialiser {arguments.initialiser} batch {arguments.batch} rate {arguments.rate}")
    print(f"vocabulary {len(vocabulary)} parameters {sum(parameter.numel() for parameter in trained)} "
          f"train titles {len(train)} validation titles {len(valid)} characters {characters} unknown {unknown}",
          flush=True)
    for epoch in range(1, arguments.epochs + 1):
        start = time.monotonic()
        loss = train_epoch(network, optimizer, train, arguments.batch)
        seconds = time.monotonic() - start
        nats, tokens = validate(network, valid)
        print(f"epoch {epoch} train {loss:.4f} nats/token, validation {nats / characters:.4f} nats/char "
              f"{nats / characters / math.log(2):.4f} bits/char {nats / tokens:.4f} nats/token, {seconds:.1f} s",
              flush=True)


if __name__ == "__main__":
    main()
