#!/usr/bin/python3
"""PyTorch as a peer of `lstmd bench` (the protocol is in cli/bench_peer.h).

Training as a user of PyTorch writes it: nn.LSTM over one-hot input, a linear layer, cross-entropy, RMSprop, the state
carried from window to window. To be fair to it, start it with OMP_PROC_BIND=true and OpenBLAS's OpenMP build in
LD_LIBRARY_PATH (tests/bench/run does): with the pthread build two thread pools fight each other. Of two forms of the
optimizer the faster one counts.
"""
import re
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Training:
    def __init__(self, layers, hidden, vocabulary, batch, window, foreach):
        torch.manual_seed(1)
        self.vocabulary, self.characters = vocabulary, batch * window
        self.lstm = nn.LSTM(vocabulary, hidden, layers)
        self.output = nn.Linear(hidden, vocabulary)
        parameters = [*self.lstm.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.RMSprop(parameters, lr=1e-3, alpha=0.9, eps=1e-7, foreach=foreach)
        self.inputs = torch.randint(0, vocabulary, (window, batch))
        self.targets = torch.randint(0, vocabulary, (window * batch,))
        zeros = torch.zeros(layers, batch, hidden)
        self.state = (zeros, zeros.clone())

    def step(self):
        x = functional.one_hot(self.inputs, self.vocabulary).to(torch.float32)
        hidden, state = self.lstm(x, self.state)
        loss = functional.cross_entropy(self.output(hidden).flatten(0, 1), self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.state = tuple(part.detach() for part in state)

    def rate(self, seconds):
        """Characters per second over at least one step and about that time."""
        steps, start = 0, time.monotonic()
        while True:
            self.step()
            steps += 1
            taken = time.monotonic() - start
            if taken >= seconds:
                return steps * self.characters / taken


def best_training(shape):
    """Warmed up, and the faster form."""
    forms = [Training(*shape, foreach=foreach) for foreach in (False, True)]
    for form in forms:
        form.rate(0.05)
    return max(forms, key=lambda form: form.rate(0.2))


def blas_in_use():
    with open("/proc/self/maps", encoding="utf-8") as maps:
        libraries = set(re.findall(r"[^/\s]*/[^/\s]*blas[^/\s]*\.so\S*", maps.read()))
    return ", ".join(sorted(libraries)) or "unknown BLAS"


def main():
    print(f"PyTorch {torch.__version__}, {blas_in_use()}", flush=True)
    current, training = None, None
    for line in sys.stdin:
        word, *numbers = line.split()
        if word != "train" or len(numbers) != 7:
            print("skip unknown request", flush=True)
            continue
        *shape, threads = (int(number) for number in numbers[:6])
        if current != (shape, threads):
            torch.set_num_threads(threads)
            current, training = (shape, threads), best_training(shape)
        print(f"{training.rate(float(numbers[6])):.1f}", flush=True)


if __name__ == "__main__":
    main()
