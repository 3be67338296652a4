#!/usr/bin/env python3
"""Whether `gsk bench --fail-on` catches a fifth more work, live, and leaves the same build alone.

    tests/perf/planted.py [--encoder openh264] [--size 1280x720] [--rounds 1]

For a machine with nothing else to do. Each picture of a film has a part that moves and a part that stands still, and what it
costs to encode grows with the part that moves: how large that is to be for a fifth more is found by measuring. A round saves
a baseline, measures the same again, which has to pass, and then the film that costs a fifth more, which has to fail. The
program under test is the same throughout, and knows of nothing. Exits with 1 if one answer is wrong.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GSK = os.environ.get("GSK", os.path.join(ROOT, "target", "release", "gsk"))
RULE = "encode.p50>+10%"
MORE = 1.20
PICTURES, STEP = 16, 61


def film(path, width, height, moving):
    """Texture, of which each of the upper `moving` rows is another piece in each picture: nothing there is found again."""
    seed, texture = 1, bytearray()
    # Steps of brightness in blocks of 8 by 4, with some grain: neither flat nor noise.
    for _ in range(height // 4 + 1):
        line = bytearray()
        while len(line) < width + PICTURES * STEP:
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            line += bytes((seed >> 16) % 160 + 48 + (n * 5) % 12 for n in range(8))
        texture += line[:width + PICTURES * STEP]
    pitch = width + PICTURES * STEP
    chroma = bytes([128]) * (width * height // 2)
    with open(path, "wb") as out:
        out.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip C420jpeg\n".encode())
        for n in range(PICTURES):
            out.write(b"FRAME\n")
            for y in range(height):
                start = y // 4 * pitch + ((n * STEP + y // 4 * 97) % (PICTURES * STEP) if y < moving else 0)
                out.write(texture[start:start + width])
            out.write(chroma)


def bench(path, options, *words):
    argv = [GSK, "bench", "encode", "--json", "-q", "--encoder", options.encoder, "--source", path, "--frames", "300", "--passes", "3", *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=os.path.dirname(path))
    return done.returncode, json.loads(done.stdout)


def p50(report):
    return next(stage["p50"] for stage in report["rows"][0]["stages"] if stage["stage"] == "encode")


def judged(code, report):
    """The code, and what the rule says, in words."""
    verdict = report["verdicts"][0]
    value, interval = verdict["value"], verdict["interval"]
    words = f"exit {code}; {verdict['rule']}: {value:.3f} times, {interval['low']:.3f} to {interval['high']:.3f}"
    return words + f"; machine: {', '.join(report['environment']['noise']) or 'quiet'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="openh264")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    good = True
    with tempfile.TemporaryDirectory(prefix="gsk-planted-") as folder:
        path, baseline = os.path.join(folder, "film.y4m"), os.path.join(folder, "baseline.json")

        def costs(moving):
            film(path, width, height, moving)
            return p50(bench(path, options)[1])

        less, most = height // 4, height // 2
        cost, whole = costs(less), costs(most)
        # What a row that moves costs is the same for each.
        more = round(less + (most - less) * (MORE - 1) * cost / (whole - cost))
        print(f"{options.size} by {options.encoder}: {less} rows move: p50 {cost:.3f} ms; {most} rows: {whole:.3f} ms; "
              f"a fifth more than with {less} is with {more}: {costs(more):.3f} ms")
        for number in range(1, options.rounds + 1):
            film(path, width, height, less)
            bench(path, options, "--save-baseline", baseline)
            again = bench(path, options, "--baseline", baseline, "--fail-on", RULE)
            film(path, width, height, more)
            planted = bench(path, options, "--baseline", baseline, "--fail-on", RULE)
            for what, (code, report), due in (("the same again", again, 0), ("a fifth more", planted, 1)):
                right = code == due and report["verdicts"][0]["failed"] == bool(due)
                good &= right
                print(f"round {number}: {what}: {judged(code, report)}: {'as it should' if right else 'WRONG'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
