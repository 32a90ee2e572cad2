"""Small Pix2Pix, SPADE and OASIS models, and a batch, draws and golden numbers for them."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ctsynth.config import build
from ctsynth.methods import base
from ctsynth.randomness import BatchRNG
from ctsynth.trainable import Batch
from ctsynth.training.distributed import freeze_others

CPU = torch.device("cpu")
CLASSES = 5
TINY = {
    "pix2pix": {"channels": 4, "discriminator_channels": 4},
    "spade": {"channels": 4, "discriminator_channels": 4, "vgg": "no"},
    "oasis": {"channels": 4, "multipliers": [4, 2, 1], "discriminator_channels": 8},
}


def make_gan(name, size=32, num_classes=CLASSES, **options):
    """The model with weights of one seed."""
    cls = base.find_method(name)
    torch.manual_seed(0)
    return cls(build(cls.Options, TINY[name] | options, name), num_classes=num_classes, size=size)


def batch_of(count=4, size=32):
    """Slices of a gray level a class, each with one rectangle."""
    labels = torch.zeros(count, size, size, dtype=torch.int64)
    for row in range(count):
        labels[row, size // 5 : size // 2 + 2 * row, size // 4 : 3 * size // 4] = 1 + row % 4
    return Batch(labels[:, None].float() / 2 - 0.8, labels)


def draws(count, name="step", first=0):
    """As the engine's, of a batch."""
    return BatchRNG.at([(name, at) for at in range(first, first + count)], CPU, group=(name, "batch"))


def stream(name, shape):
    """Normal numbers that depend on the name only, with which golden values were computed."""
    seed = zlib.crc32(name.encode())
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).to(torch.float32)


def learn(model, phases, batch, steps, lr=None):
    """Trains as the engine does, at the phases' own rates unless one is given; the terms of every step by name."""
    optimizers = {p.name: torch.optim.Adam(p.parameters, lr=lr or p.lr, betas=p.betas) for p in model.phases()}
    rows = []
    for step in range(steps):
        row = {}
        for phase in model.phases():
            if phase.name not in phases:
                continue
            freeze_others(model, phase)
            optimizers[phase.name].zero_grad()
            terms = model.loss(phase.name, batch, draws(len(batch.labels), first=8 * step))
            terms["loss"].backward()
            optimizers[phase.name].step()
            row |= {name: term.item() for name, term in terms.items()}
        rows.append(row)
    return rows


def with_running_statistics(model, steps):
    """The model in evaluation mode, with random weights and statistics that are not those of any one slice."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        for step in range(steps):
            model.loss("generator", batch_of(), draws(4, first=4 * step))
    return model.eval()
