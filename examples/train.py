#!/usr/bin/env python3
"""A training program to profile: logistic regression on points of two clouds, in plain Python.

    gsk train-nvtx 3 64 clouds 0 -- python3 examples/train.py --epochs {epochs} --batch {batch}

It marks its stages for NVTX where the Python package nvtx is installed (pip install nvtx), and runs the same without. Any
program in any language can be profiled in this way. Exit code 3: the loss is above --target.
"""
import argparse
import contextlib
import math
import os
import random
import sys

try:
    from nvtx import annotate
except ImportError:
    def annotate(_name):
        return contextlib.nullcontext()

POINTS = 2000


def number(name, default):
    """gsk tells the numbers in the environment too."""
    return int(os.environ.get(name, default))


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=number("GSK_EPOCHS", 3))
parser.add_argument("--batch", type=int, default=number("GSK_BATCH", 64))
parser.add_argument("--target", type=float, default=math.inf, help="a loss that is to be reached")
options = parser.parse_args()

chance = random.Random(1)
points = []
for i in range(POINTS):
    label = i % 2
    points.append((chance.gauss(2 * label - 1, 1), chance.gauss(1 - 2 * label, 1), label))

weights = [0.0, 0.0, 0.0]
loss = math.inf
for epoch in range(1, options.epochs + 1):
    with annotate("epoch"):
        chance.shuffle(points)
        total = 0.0
        for first in range(0, POINTS, options.batch):
            batch = points[first:first + options.batch]
            with annotate("forward"):
                answers = [1 / (1 + math.exp(-(weights[0] * x + weights[1] * y + weights[2]))) for x, y, _ in batch]
            with annotate("loss"):
                total -= sum(math.log(max(p if label else 1 - p, 1e-12)) for p, (_, _, label) in zip(answers, batch))
            with annotate("backward"):
                errors = [p - label for p, (_, _, label) in zip(answers, batch)]
                gradient = [sum(e * x for e, (x, _, _) in zip(errors, batch)),
                            sum(e * y for e, (_, y, _) in zip(errors, batch)), sum(errors)]
            with annotate("optimiser"):
                weights = [w - 0.5 * g / len(batch) for w, g in zip(weights, gradient)]
        loss = total / POINTS
    print(f"epoch {epoch}: loss {loss:.4f}", flush=True)

sys.exit(0 if loss <= options.target else 3)
