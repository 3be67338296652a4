"""Writes raw rgb24 frames, of a test card mostly, to standard output, well or badly: feed.py MODE WIDTH HEIGHT [FILE]."""
import os
import sys
import time

# Flat patches, row by row: the greys, the corners of the RGB cube, and what lies between.
COLUMNS, ROWS = 4, 4
COLOURS = [(0, 0, 0), (64, 64, 64), (128, 128, 128), (255, 255, 255),
           (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0),
           (0, 255, 255), (255, 0, 255), (255, 128, 0), (128, 0, 255),
           (224, 172, 148), (30, 90, 60), (16, 24, 96), (200, 220, 240)]


def card(width, height):
    rows = []
    for row in range(ROWS):
        line = b"".join(bytes(COLOURS[row * COLUMNS + column]) * (width // COLUMNS) for column in range(COLUMNS))
        rows.append(line * (height // ROWS))
    return b"".join(rows)


def main():
    mode, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    note = sys.argv[4] if len(sys.argv) > 4 else None
    out = sys.stdout.buffer
    frame, white = card(width, height), bytes([255]) * 3 * 16
    began = time.monotonic()

    def frames(n):
        for i in range(n):
            # A few pixels at the corner, outside what is measured, make each picture another.
            line = i % 16 * width * 3
            out.write(frame[:line] + white + frame[line + len(white):])
            out.flush()
            time.sleep(max(0, began + i / 30 - time.monotonic()))

    def noted():
        if note:
            with open(note + ".new", "w", encoding="utf-8") as file:
                file.write(str(time.monotonic()))
            os.rename(note + ".new", note)

    if mode == "noise":
        # What no encoder makes small.
        grains = os.urandom(2 * len(frame))
        for i in range(10 ** 9):
            at = i * 7919 % len(frame)
            out.write(grains[at:at + len(frame)])
            out.flush()
            time.sleep(max(0, began + i / 30 - time.monotonic()))
    elif mode == "card":
        frames(10 ** 9)
    elif mode == "exit3":
        frames(60)
        sys.exit(3)
    elif mode == "truncated":
        frames(60)
        out.write(frame[:len(frame) // 2])
        out.flush()
    elif mode == "hang":
        # Long enough for the slowest way to the screen to have begun.
        frames(150)
        out.write(frame[:len(frame) // 2])
        out.flush()
        noted()
        time.sleep(3600)
    elif mode == "late":
        # Until whoever watches has seen that nothing comes.
        while not os.path.exists(note):
            time.sleep(0.02)
        frames(10 ** 9)
    elif mode == "steps":
        # Pictures in one colour, and once the file is there one in the next colour each time that it is.
        for i in range(10 ** 9):
            out.write(bytes(COLOURS[4 + i % 3]) * (width * height))
            out.flush()
            while not os.path.exists(note):
                time.sleep(0.005 if i else 0.03)
                if not i:
                    out.write(bytes(COLOURS[4]) * (width * height))
                    out.flush()
            os.remove(note)
    elif mode == "text":
        print("this is no picture, and never will be one", flush=True)
        time.sleep(3600)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
