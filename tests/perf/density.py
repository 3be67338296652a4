#!/usr/bin/env python3
"""Whether the number that `gsk bench density` names holds: so many workers with a viewer each, for a minute.

    tests/perf/density.py [--size 720p] [--fps 30] [--seconds 60] [WORDS FOR gsk bench density AND gsk serve, BOTH]

For a machine with nothing else to do. It asks `gsk bench density --json` for the number, starts so many `gsk serve` and a
`gsk view --decode none` of each, and prints the frame rate of each stream over the minute. A stream holds as it does for
density: at least 97 % of the frame rate. Exits with 1 if one does not.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GSK = os.environ.get("GSK", os.path.join(ROOT, "target", "release", "gsk"))
KEPT = 0.97


class Worker:
    def __init__(self, words):
        argv = [GSK, "serve", "--listen", "127.0.0.1:0", "-q", *words]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


def watch(url, seconds):
    argv = [GSK, "view", url, "--decode", "none", "--seconds", str(seconds), "--json", "-q"]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="720p")
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    options, both = parser.parse_known_args()
    common = ["--fps", str(options.fps), *both]
    bench = subprocess.run([GSK, "bench", "density", "--json", "-q", "--size", options.size, *common], stdout=subprocess.PIPE)
    report = json.loads(bench.stdout)
    if not report["rows"]:
        print(f"density: {report['absent']} {report['errors']}", file=sys.stderr)
        return bench.returncode
    row = report["rows"][0]
    streams = row["load"]["streams"]
    print(f"density: {row['detail']}")
    print(f"the machine: {', '.join(report['environment']['noise']) or 'quiet'}")
    held = []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(["--size", row["size"], *common])) for _ in range(streams)]
        viewers = [watch(worker.url, options.seconds) for worker in workers]
        for number, viewer in enumerate(viewers, 1):
            seen = json.loads(viewer.communicate()[0])
            rate, gap = seen["fps"]["median"], seen["spans_ms"]["gap"]
            held.append(viewer.returncode == 0 and rate is not None and rate >= KEPT * options.fps)
            print(f"stream {number}: {rate:.2f} fps over {options.seconds:g} s, {seen['frames']} frames, {seen['missing']} missing, "
                  f"gaps p99 {gap['p99']:.0f} ms, longest {gap['max']:.0f} ms: {'held' if held[-1] else 'MISSED'}")
    print(f"{sum(held)} of {streams} held for {options.seconds:g} s")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
