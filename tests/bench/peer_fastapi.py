#!/usr/bin/python3
"""FastAPI + uvicorn + PyTorch as a peer: POST /generate of an LSTM of 1x128, as a Python user deploys it.

Incremental: the hidden state is carried, no prefix is computed again; no gradients; one thread per process, which is
the fastest for so small a network; the fastest of the forms of peer_pytorch.py. The handler is a coroutine that computes:
one request at a time per process, which is faster than threads that share the lock of the interpreter.

    python3 -m uvicorn --app-dir tests/bench --workers 1 peer_fastapi:app
"""
import torch
from fastapi import FastAPI
from pydantic import BaseModel

from peer_pytorch import Stepping, best, stepping_forms

LAYERS, HIDDEN = 1, 128
TEXT = "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-:;!?()[]\"&%$/+="
IDS = {character: i for i, character in enumerate(TEXT)}

torch.set_num_threads(1)
torch.manual_seed(1)
SHAPE = LAYERS, HIDDEN, len(TEXT)
network = best([Stepping(form, *SHAPE, batch=1) for form in stepping_forms(*SHAPE)]).form
app = FastAPI()


class Wanted(BaseModel):
    prompt: str = " "
    length: int = 100


@app.post("/generate")
async def generate(wanted: Wanted):
    prompt = torch.tensor([[IDS[character]] for character in wanted.prompt])
    with torch.inference_mode():
        h = torch.zeros(LAYERS, 1, HIDDEN)
        drawn, _, _ = network(prompt, h, h.clone(), wanted.length)
    completion = "".join(TEXT[i] for i in drawn.flatten().tolist())
    return {"text": wanted.prompt + completion, "completion": completion}
