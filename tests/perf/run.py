#!/usr/bin/env python3
"""gsk's figures, each as a ratio or against its target, from one run on one machine.

    tests/perf/run.py [encoder] [pipeline] [fanout] [startup] [lease] [doctor] [glass] [--json FILE]

Without names: all but glass. Needs FFmpeg with libx264. Leave the machine alone meanwhile. `glass` needs the harness
beside the repository (../shared/glass); with SELKIES=program, Selkies is measured in alternation.
"""
import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLIP = os.path.join(os.path.dirname(ROOT), "shared", "media", "bbb_720p25.mp4")
GLASS = os.path.join(os.path.dirname(ROOT), "shared", "glass")
RELEASE = os.path.join(ROOT, "target", "release")
GSK = os.path.join(RELEASE, "gsk")


def example(name):
    return os.path.join(RELEASE, "examples", name)


def output(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def ffmpeg(*argv):
    """Runs FFmpeg; its standard error, where its figures are."""
    run = subprocess.run(["ffmpeg", "-hide_banner", "-nostdin", "-y", *argv], check=True, stderr=subprocess.PIPE, text=True)
    return run.stderr


def clip(folder, fps=None):
    """The test clip as Y4M; a made one where the real one is missing, and the figures say so."""
    out = os.path.join(folder, f"clip{fps or ''}.y4m")
    if not os.path.exists(out):
        source = ["-i", CLIP] if os.path.exists(CLIP) else ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=5"]
        # Another rate plays the same pictures faster: were some of them repeated, gsk would not encode those.
        rate = ["-r", str(fps)] if fps else []
        ffmpeg(*rate, *source, "-an", "-pix_fmt", "yuv420p", out)
    return out


def ssim(stream, source, rate=25):
    text = ffmpeg("-r", str(rate), "-i", stream, "-i", source, "-lavfi", "ssim", "-f", "null", "-")
    return float(re.search(r"SSIM Y:([0-9.]+)", text)[1])


def cpu_seconds(text):
    found = re.search(r"bench: utime=([0-9.]+)s stime=([0-9.]+)s", text)
    return float(found[1]) + float(found[2])


class Server:
    """A gsk serve on a free port, ended on leaving."""

    def __init__(self, *argv, stdin=subprocess.DEVNULL):
        self.began = time.monotonic()
        self.process = subprocess.Popen([GSK, "serve", "--listen", "0", "-q", *argv], stdin=stdin, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.address = self.url.removeprefix("http://").rstrip("/")

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read()

    def status(self):
        return json.loads(self.get("status"))

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(5)


def encoder(folder):
    """CPU per frame and luma SSIM at 4 Mbit/s, one thread, beside x264's presets; the ratio is to x264's line between
    its presets at the same SSIM."""
    source, frames = clip(folder), None
    rows = []
    for name in ("openh264",):
        stream = os.path.join(folder, name + ".h264")
        best = None
        for _ in range(5):
            run = json.loads(output(example("perf-encode"), source, stream, name, "4000000"))
            best = run if best is None or run["cpu_ms"] < best["cpu_ms"] else best
        frames = best["frames"]
        rows.append({"encoder": "gsk " + name, "cpu_ms": best["cpu_ms"], "ssim": ssim(stream, source), "kbps": best["kbps"],
                     "p50_ms": best["p50_ms"], "p99_ms": best["p99_ms"]})
    reading = min(cpu_seconds(ffmpeg("-benchmark", "-threads", "1", "-i", source, "-f", "null", "-")) for _ in range(5))
    line = []
    for preset in ("ultrafast", "superfast", "veryfast"):
        stream = os.path.join(folder, preset + ".h264")
        command = ["-benchmark", "-threads", "1", "-i", source, "-c:v", "libx264", "-preset", preset, "-tune", "zerolatency",
                   "-threads", "1", "-b:v", "4M", "-maxrate", "4M", "-bufsize", "4M", "-g", "9999", stream]
        cpu = min(cpu_seconds(ffmpeg(*command)) for _ in range(3)) - reading
        row = {"encoder": "x264 " + preset, "cpu_ms": cpu * 1e3 / frames, "ssim": ssim(stream, source),
               "kbps": os.path.getsize(stream) * 8 * 25 / frames / 1e3, "p50_ms": None, "p99_ms": None}
        rows.append(row)
        line.append((row["ssim"], row["cpu_ms"]))
    for row in rows:
        row["of_x264_line"] = row["cpu_ms"] / at(line, row["ssim"]) if row["encoder"].startswith("gsk") else None
    return rows


def at(line, x):
    """The value at x on the line through some points, straight between two and beyond the first."""
    for (x0, y0), (x1, y1) in zip(line, line[1:]):
        if x <= x1 or (x1, y1) == line[-1]:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def pipeline(folder, seconds=20):
    """Captured to handed to the viewers' queues, less conversion and encoding; 720p30, one viewer."""
    with Server("--source", clip(folder, 30), "--loop") as server:
        viewer = subprocess.Popen([example("perf-fanout"), "watch", server.address, "1", str(seconds)], stdout=subprocess.DEVNULL)
        viewer.wait()
        stages = server.status()["latency_ms"]
    return [{"stage": stage, **{k: v for k, v in stages[stage].items()}} for stage in ("capture", "convert", "encode", "publish", "send")]


def fanout(folder, viewers=300, seconds=15):
    """WebSocket viewers of one 720p30 stream at 2 Mbit/s, and the same bytes by a bare loop of socket writes."""
    with Server("--source", clip(folder, 30), "--loop", "--bitrate", "2M") as server:
        def watch(n):
            return json.loads(output(example("perf-fanout"), "watch", server.address, str(n), str(seconds), str(server.process.pid)))
        one, many = watch(1), watch(viewers)
        dropped = server.status()["frames_dropped_by"]["slow_viewer"]
    size = int(many["bps_per_viewer"] / 8 / many["units_per_s"])
    sender = subprocess.Popen([example("perf-fanout"), "send", str(viewers), str(size), "30", str(seconds)], stdout=subprocess.PIPE, text=True)
    address = sender.stdout.readline().strip()
    bare = json.loads(output(example("perf-fanout"), "take", address, str(viewers), str(seconds), str(sender.pid)))
    sender.wait()
    each = (many["cpu_pct"] - one["cpu_pct"]) / (viewers - 1)
    return [{"viewers": viewers, "bytes_a_unit": size, "units_per_s": many["units_per_s"], "units_dropped": dropped,
             "cpu_pct_per_viewer": each, "bare_loop_cpu_pct_per_viewer": bare["cpu_pct"] / viewers,
             "of_bare_loop": each * viewers / bare["cpu_pct"], "kib_per_viewer": (many["rss_kib"] - one["rss_kib"]) / (viewers - 1)}]


def startup(folder, starts=10, idle_seconds=20):
    """From process start to /readyz, and what an unwatched scene costs."""
    times = []
    for _ in range(starts):
        with Server() as server:
            while True:
                try:
                    server.get("readyz")
                    break
                except OSError:
                    pass
            times.append((time.monotonic() - server.began) * 1e3)
    with Server() as server:
        # What the start itself costs is over once the source is known.
        while server.status()["source_detail"] is None:
            pass
        before = server.cpu()
        time.sleep(idle_seconds)
        idle, rss = 100 * (server.cpu() - before) / idle_seconds, server.rss_kib()
    return [{"readyz_ms_p50": statistics.median(times), "readyz_ms_max": max(times), "idle_cpu_pct": idle,
             "idle_rss_mib": rss / 1024, "binary_mib": os.path.getsize(GSK) / 2**20}]


def lease(folder, rounds=20_000):
    """One process takes an encoder slot and gives it back; the directory holds one slot file."""
    return [json.loads(output(example("perf-lease"), str(rounds)))]


def standin(folder):
    """The stand-in driver's NVML, and a scene of one board: the environment that a program finds them by."""
    sources = os.path.join(ROOT, "tests", "standin")
    library, scene = os.path.join(folder, "libnvidia-ml.so.1"), os.path.join(folder, "scene")
    files = [os.path.join(sources, name) for name in ("nvml.c", "scene.c", "state.c")]
    subprocess.run(["cc", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-o", library, *files, "-ldl", "-lpthread"], check=True)
    with open(scene, "w") as out:
        out.write('driver 550.54.14\ncuda 12040\nlimit 8 code=21\nboard name="NVIDIA GeForce RTX 4090" cc=8.9 engines=2 geforce=yes\n')
        out.write("foreign board=0 pid=1 codec=h264 size=1920x1080 fps=60 latency=2000 session=1\n")
    return {"GSK_NVML_LIBRARY": library, "GSK_STANDIN": scene}


def doctor(folder, rounds=100):
    """`gsk nvenc-status` from its start to its end, wall clock, ms: without a driver, and with the stand-in driver and five
    workers, beside the slowest of these as asked one by one."""
    def times(env, *words):
        env = {**os.environ, "GSK_LEASE_DIR": os.path.join(folder, "leases"), **env}
        def once():
            began = time.perf_counter()
            subprocess.run([GSK, "nvenc-status", "-q", *words], env=env, stdout=subprocess.DEVNULL)
            return (time.perf_counter() - began) * 1e3
        spans = sorted(once() for _ in range(rounds))
        return {"p50": statistics.median(spans), "p95": spans[int(0.95 * (rounds - 1))]}

    def span(server):
        began = time.perf_counter()
        server.status()
        return (time.perf_counter() - began) * 1e3
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server("--encoder", "openh264")) for _ in range(5)]
        slowest = [max(span(server) for server in servers) for _ in range(rounds)]
        words = [word for server in servers for word in ("--worker", server.url)]
        with_workers = times(standin(folder), *words)
    return [{"scene": "no driver", **times({"GSK_NVML_LIBRARY": os.path.join(folder, "none")})},
            {"scene": "stand-in, five workers", **with_workers},
            {"scene": "the slowest of five, alone", "p50": statistics.median(slowest), "p95": sorted(slowest)[int(0.95 * (rounds - 1))]}]


def glass(folder, rounds=3, seconds=12):
    """Painted to on the screen, by the harness beside the repository."""
    rows = []
    for fps in (30, 60):
        for _ in range(rounds):
            servers = [("gsk", ["run", "gsk", "--pipe", "raw"], ["--", GSK, "serve", "--listen", "{port}", "--source", "-", "--size",
                        "1280x720", "--pixel-format", "i420", "--fps", "{fps}", "--bitrate", "{kbps}k"])]
            if os.environ.get("SELKIES"):
                servers.append(("selkies", ["run-selkies"], []))
            for name, (program, *args), tail in servers:
                argv = [os.path.join(GLASS, program), *args, "--screen", "--runs", "1", "--seconds", str(seconds), "--fps", str(fps), *tail]
                run = json.loads(output(*argv))
                row = {"server": name, "fps": fps, **{k: run["screen_ms"][k] for k in ("p50", "p95", "p99")},
                       "cpu_pct": run["cpu_pct"]["server"], "painted_fps": run["painted_fps"], "spin_ms": run["spin_ms"]}
                rows.append(row)
                print("  ", row, file=sys.stderr)
    for name, fps in sorted({(r["server"], r["fps"]) for r in rows}):
        same = [r for r in rows if (r["server"], r["fps"]) == (name, fps)]
        rows.append({"server": name + ", median", "fps": fps,
                     **{k: statistics.median(r[k] for r in same) for k in ("p50", "p95", "p99", "cpu_pct", "painted_fps", "spin_ms")}})
    for name, (program, *args), tail in servers:
        argv = [os.path.join(GLASS, program), *args, "--runs", "1", "--seconds", "3", "--loads", "10", "--fps", "30", *tail]
        joins = json.loads(output(*argv))["join_ms"]
        rows.append({"server": name + ", join", "fps": 30, "p50": joins["p50"], "max": joins["max"]})
    return rows


def show(name, rows, about):
    print(f"\n{name}: {' '.join(about.split())}")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    def cell(value):
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    table = [keys] + [[cell(row.get(key)) for key in keys] for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(keys))]
    for row in table:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def main():
    cases = {f.__name__: f for f in (encoder, pipeline, fanout, startup, lease, doctor, glass)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", choices=[[], *cases])
    parser.add_argument("--json", help="write the figures here too")
    options = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--bin", "gsk", "--example", "perf-encode", "--example", "perf-fanout", "--example", "perf-lease"], cwd=ROOT, check=True)
    figures = {}
    with tempfile.TemporaryDirectory(prefix="gsk-perf-") as folder:
        for name in options.case or [name for name in cases if name != "glass"]:
            figures[name] = cases[name](folder)
            show(name, figures[name], cases[name].__doc__)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(figures, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    main()
