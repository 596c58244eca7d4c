#!/usr/bin/python3
"""FastAPI + uvicorn + PyTorch as a peer: POST /generate of an LSTM of 1x128, as a Python user would deploy it.

It carries the hidden state, so it computes no prefix again. It computes no gradients. It uses one thread per process, the
fastest choice for so small a network, and the fastest form of peer_pytorch.py. The handler is a coroutine that computes one
request at a time per process. That is faster than threads, which would share the interpreter's lock.

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
