#!/usr/bin/python3
"""PyTorch as a peer of `lstmd bench` (the protocol is in cli/bench_peer.h).

Training, as a user of PyTorch writes it: nn.LSTM over one-hot input, a linear layer, cross-entropy, RMSprop. The state goes
on from window to window. Stepping: one character per call with a carried state. Softmax and multinomial draw each character.
There are three forms: nn.LSTM as a user writes it; its equations, with a look-up for the one-hot product; and these equations
compiled by TorchScript. The fastest form counts, also of two forms of the optimizer. For a fair result, start it with
OMP_PROC_BIND=true and OpenBLAS's OpenMP build in LD_LIBRARY_PATH (tests/bench/run does). With the pthread build, two thread
pools fight for the processors.
"""
import re
import sys
import time
from typing import List, Tuple

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
        """Returns characters per second. Measures at least one step and about that time."""
        steps, start = 0, time.monotonic()
        while True:
            self.step()
            steps += 1
            taken = time.monotonic() - start
            if taken >= seconds:
                return steps * self.characters / taken


class EagerSteps(nn.Module):
    """nn.LSTM with sequences of length one."""

    def __init__(self, layers, hidden, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self.lstm = nn.LSTM(vocabulary, hidden, layers)
        self.output = nn.Linear(hidden, vocabulary)

    def inputs(self, tokens):
        return functional.one_hot(tokens, self.vocabulary).to(torch.float32)

    def forward(self, prompt, h, c, steps: int):
        """Reads prompt [T][B] and draws `steps` tokens of each sequence: [steps][B]."""
        if len(prompt) > 1:
            _, (h, c) = self.lstm(self.inputs(prompt[:-1]), (h, c))
        tokens, drawn = prompt[-1], []
        for _ in range(steps):
            y, (h, c) = self.lstm(self.inputs(tokens).unsqueeze(0), (h, c))
            tokens = torch.multinomial(torch.softmax(self.output(y[0]), 1), 1).flatten()
            drawn.append(tokens)
        return torch.stack(drawn), h, c


class LookupSteps(nn.Module):
    """The same equations. A row of the transposed weights, with both biases in it, replaces the one-hot product."""

    def __init__(self, layers, hidden, vocabulary):
        super().__init__()
        lstm = nn.LSTM(vocabulary, hidden, layers)
        self.output = nn.Linear(hidden, vocabulary)
        biases = [getattr(lstm, f"bias_ih_l{k}") + getattr(lstm, f"bias_hh_l{k}") for k in range(layers)]
        self.rows = nn.Parameter(lstm.weight_ih_l0.t() + biases[0])
        below = [torch.cat((getattr(lstm, f"weight_ih_l{k}"), getattr(lstm, f"weight_hh_l{k}")), 1)
                 for k in range(1, layers)]
        self.weights: List[torch.Tensor] = [matrix.detach().t().contiguous() for matrix in [lstm.weight_hh_l0, *below]]
        self.biases: List[torch.Tensor] = [bias.detach() for bias in biases]

    def cells(self, tokens, hs: List[torch.Tensor], cs: List[torch.Tensor]):
        gates = torch.addmm(self.rows[tokens], hs[0], self.weights[0])
        for k in range(len(hs)):
            if k > 0:
                gates = torch.addmm(self.biases[k], torch.cat((hs[k - 1], hs[k]), 1), self.weights[k])
            i, f, g, o = gates.chunk(4, 1)
            cs[k] = torch.sigmoid(f) * cs[k] + torch.sigmoid(i) * torch.tanh(g)
            hs[k] = torch.sigmoid(o) * torch.tanh(cs[k])

    def forward(self, prompt, h, c, steps: int) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reads prompt [T][B] and draws `steps` tokens of each sequence: [steps][B]."""
        hs, cs = list(h.unbind(0)), list(c.unbind(0))
        for t in range(prompt.size(0) - 1):
            self.cells(prompt[t], hs, cs)
        tokens = prompt[-1]
        drawn: List[torch.Tensor] = []
        for _ in range(steps):
            self.cells(tokens, hs, cs)
            tokens = torch.multinomial(torch.softmax(self.output(hs[-1]), 1), 1).flatten()
            drawn.append(tokens)
        return torch.stack(drawn), torch.stack(hs), torch.stack(cs)


def stepping_forms(layers, hidden, vocabulary):
    torch.manual_seed(1)
    lookup = LookupSteps(layers, hidden, vocabulary).eval()
    return [EagerSteps(layers, hidden, vocabulary).eval(), lookup, torch.jit.script(lookup)]


class Stepping:
    def __init__(self, form, layers, hidden, vocabulary, batch):
        self.form, self.batch = form, batch
        self.steps = max(1, 16 // batch)
        self.tokens = torch.randint(0, vocabulary, (1, batch))
        self.h, self.c = torch.zeros(layers, batch, hidden), torch.zeros(layers, batch, hidden)

    def rate(self, seconds):
        """Returns characters per second of all sequences. Measures at least one call and about that time."""
        done, start = 0, time.monotonic()
        with torch.inference_mode():
            while True:
                drawn, self.h, self.c = self.form(self.tokens, self.h, self.c, self.steps)
                self.tokens = drawn[-1:]
                done += self.steps * self.batch
                taken = time.monotonic() - start
                if taken >= seconds:
                    return done / taken


def best(forms):
    """Warms all forms up and returns the fastest one."""
    for form in forms:
        form.rate(0.1)
    return max(forms, key=lambda form: form.rate(0.2))


def open_task(word, shape):
    if word == "train":
        return best([Training(*shape, foreach=foreach) for foreach in (False, True)])
    return best([Stepping(form, *shape) for form in stepping_forms(*shape[:3])])


def blas_in_use():
    with open("/proc/self/maps", encoding="utf-8") as maps:
        libraries = set(re.findall(r"[^/\s]*/[^/\s]*blas[^/\s]*\.so\S*", maps.read()))
    return ", ".join(sorted(libraries)) or "unknown BLAS"


def main():
    print(f"PyTorch {torch.__version__}, {blas_in_use()}", flush=True)
    current, task = None, None
    for line in sys.stdin:
        word, *numbers = line.split()
        if len(numbers) != {"train": 7, "step": 6}.get(word):
            print("skip unknown request", flush=True)
            continue
        *shape, threads = (int(number) for number in numbers[:-1])
        if current != (word, shape, threads):
            torch.set_num_threads(threads)
            task = None  # first frees the memory of the last one
            current, task = (word, shape, threads), open_task(word, shape)
        print(f"{task.rate(float(numbers[-1])):.1f}", flush=True)


if __name__ == "__main__":
    main()
