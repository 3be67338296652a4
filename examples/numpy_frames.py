#!/usr/bin/env python3
"""Streams numpy frames to browsers through gsk, and lets the viewer's pointer draw.

    gsk serve --size 640x360 --pixel-format rgb24 --fps 30 -- python3 examples/numpy_frames.py

gsk reads raw frames from standard output and writes input events, one JSON object a line, to standard input.
Any program in any language can do the same.
"""
import json
import sys
import threading
import time

import numpy as np

WIDTH, HEIGHT, FPS = 640, 360, 30
pointer = [0.5, 0.5]


def read_input():
    for line in sys.stdin:
        event = json.loads(line)
        if event["event"] == "pointer":
            pointer[:] = event["x"], event["y"]


threading.Thread(target=read_input, daemon=True).start()
y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
start = time.monotonic()
frame = 0
while True:
    t = frame / FPS
    distance = np.hypot(x - pointer[0] * WIDTH, y - pointer[1] * HEIGHT)
    waves = 0.5 + 0.5 * np.sin(distance / 12 - 5 * t)
    picture = np.stack([200 * waves, 120 + 80 * np.sin(x / 90 + t), 255 * (1 - waves)], axis=-1)
    try:
        sys.stdout.buffer.write(picture.astype(np.uint8).tobytes())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        break
    frame += 1
    # Deadlines are counted from the start, so that the rate does not drift.
    time.sleep(max(0, start + frame / FPS - time.monotonic()))
