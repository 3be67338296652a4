#!/usr/bin/env python3
"""gsk's figures, each as a ratio or against its aim, with its peers in the same run on one machine.

    tests/perf/run.py [encoder] [pipeline] [fanout] [startup] [still] [lease] [doctor] [glass] [--json FILE]

Without names: all, glass where its harness is beside the repository (../shared/glass). Needs FFmpeg with libx264; with
SELKIES=program, Selkies is measured in alternation. Leave the machine alone meanwhile: about 12 minutes. The aims stand
last, met or missed; what was made of them is in RESULTS.md.
"""
import argparse
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
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


def clip(folder, fps=None, size="1280x720"):
    """The test clip as Y4M; a made one where the real one is missing, and the figures say so."""
    out = os.path.join(folder, f"clip{fps or ''}-{size}.y4m")
    if not os.path.exists(out):
        source = ["-i", CLIP] if os.path.exists(CLIP) else ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=5"]
        # Another rate plays the same pictures faster: were some of them repeated, gsk would not encode those.
        rate = ["-r", str(fps)] if fps else []
        ffmpeg(*rate, *source, "-an", "-s", size, "-sws_flags", "lanczos", "-pix_fmt", "yuv420p", out)
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
    """CPU per frame and luma SSIM, one thread, at 4 Mbit/s for 720p and 8 for 1080p (the same clip, scaled), beside x264's
    presets; the ratio is to x264's line between its presets at the same SSIM."""
    return encoders(folder, "1280x720", 4) + encoders(folder, "1920x1080", 8)


def encoders(folder, size, mbps, rounds=6):
    source, out = clip(folder, size=size), os.path.join(folder, "out.h264")
    reading = ["-benchmark", "-threads", "1", "-i", source]
    rate = ["-b:v", f"{mbps}M", "-maxrate", f"{mbps}M", "-bufsize", f"{mbps}M", "-g", "9999"]
    presets, rows, read = ("ultrafast", "superfast", "veryfast"), {}, []
    # All in turn, again and again: the machine's speed drifts, and the least of each is compared.
    for _ in range(rounds):
        run = json.loads(output(example("perf-encode"), source, out, "openh264", f"{mbps}000000"))
        frames = run["frames"]
        ours = rows.setdefault("gsk openh264", {"encoder": "gsk openh264", "size": size, **run, "ssim": None})
        ours.update({key: min(ours[key], run[key]) for key in ("cpu_ms", "p50_ms", "p99_ms")})
        ours["ssim"] = ours["ssim"] or ssim(out, source)
        read.append(cpu_seconds(ffmpeg(*reading, "-f", "null", "-")) * 1e3 / frames)
        for preset in presets:
            x264 = ["-c:v", "libx264", "-preset", preset, "-tune", "zerolatency", "-threads", "1", *rate, out]
            cpu = cpu_seconds(ffmpeg(*reading, *x264)) * 1e3 / frames
            row = rows.setdefault(preset, {"encoder": "x264 " + preset, "size": size, "cpu_ms": cpu, "ssim": None,
                                           "kbps": os.path.getsize(out) * 8 * 25 / frames / 1e3})
            row["cpu_ms"] = min(row["cpu_ms"], cpu)
            row["ssim"] = row["ssim"] or ssim(out, source)
    for preset in presets:
        rows[preset]["cpu_ms"] -= min(read)
    line = [(rows[preset]["ssim"], rows[preset]["cpu_ms"]) for preset in presets]
    ours["of_x264_line"] = ours["cpu_ms"] / at(line, ours["ssim"])
    keys = ("encoder", "size", "cpu_ms", "ssim", "kbps", "p50_ms", "p99_ms", "of_x264_line")
    return [{key: row.get(key) for key in keys} for row in rows.values()]


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


def fanout(folder, viewers=1000, seconds=15):
    """WebSocket viewers of one 720p30 stream at 2 Mbit/s, and the same bytes by a bare loop of socket writes."""
    with Server("--source", clip(folder, 30), "--loop", "--bitrate", "2M", "--max-viewers", str(viewers + 1)) as server:
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
             "bare_units_per_s": bare["bps_per_viewer"] / 8 / size, "cpu_pct_per_viewer": each,
             "bare_loop_cpu_pct_per_viewer": bare["cpu_pct"] / viewers, "of_bare_loop": each * viewers / bare["cpu_pct"],
             "kib_per_viewer": (many["rss_kib"] - one["rss_kib"]) / (viewers - 1)}]


def startup(folder, starts=10, idle_seconds=20):
    """From process start to /readyz, and what an unwatched scene costs, its renderer's libraries included; base: a worker that
    waits for frames on a pipe."""
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
    with Server("--source", "-", "--size", "1280x720", "--pixel-format", "i420", stdin=subprocess.PIPE) as server:
        server.get("healthz")
        base = server.rss_kib()
    return [{"readyz_ms_p50": statistics.median(times), "readyz_ms_max": max(times), "idle_cpu_pct": idle,
             "base_rss_mib": base / 1024, "scene_rss_mib": rss / 1024, "binary_mib": os.path.getsize(GSK) / 2**20}]


def still(folder, seconds=20):
    """What a picture that does not change costs while one viewer watches it: a program that writes it 30 times a second,
    and one that writes it once and then waits."""
    frame = os.path.join(folder, "still.i420")
    with open(frame, "wb") as out:
        out.write(subprocess.run(["ffmpeg", "-v", "error", "-i", clip(folder), "-frames:v", "1", "-f", "rawvideo", "-"], check=True,
                                 stdout=subprocess.PIPE).stdout)
    again = ("import sys, time\nframe, began, n = open(sys.argv[1], 'rb').read(), time.monotonic(), 0\n"
             "while True:\n    sys.stdout.buffer.write(frame); sys.stdout.buffer.flush(); n += 1\n"
             "    time.sleep(max(0, began + n / 30 - time.monotonic()))")
    once = "import sys, time\nsys.stdout.buffer.write(open(sys.argv[1], 'rb').read()); sys.stdout.buffer.flush(); time.sleep(600)"
    rows = []
    for name, program in (("30 times a second", again), ("once", once)):
        with Server("--size", "1280x720", "--pixel-format", "i420", "--", sys.executable, "-c", program, frame) as server:
            run = json.loads(output(example("perf-fanout"), "watch", server.address, "1", str(seconds), str(server.process.pid)))
        rows.append({"written": name, "cpu_pct": run["cpu_pct"], "units_per_s": run["units_per_s"]})
    return rows


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


def glass(folder, rounds=3, seconds=12, loads=20):
    """Painted to on the screen, by the harness beside the repository; joins are page loads in a warm browser; SSIM is luma's,
    of what Chromium's screen shows to what was painted."""
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
        argv = [os.path.join(GLASS, program), *args, "--runs", "1", "--seconds", "3", "--loads", str(loads), "--fps", "30", *tail]
        joins = sorted(json.loads(output(*argv))["join_ms"]["all"])
        rows.append({"server": name + ", join", "fps": 30, "p50": statistics.median(joins), "p95": joins[int(0.95 * (len(joins) - 1))]})
    for fps in (30, 60):
        for name, *_ in servers:
            seen = json.loads(output(sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "screen.py"), name, GSK, str(fps), "4000"))
            rows.append({"server": name + ", SSIM", "fps": fps, **seen})
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


def row(rows, **keys):
    """The first row that has these values; nothing where there is none."""
    return next((row for row in rows if all(row.get(key) == value for key, value in keys.items())), {})


def aims(figures):
    """(aim, value, most that it may be), of the cases that were run."""
    def get(case, key, **keys):
        return row(figures.get(case, []), **keys).get(key)
    for size in ("1280x720", "1920x1080"):
        yield f"H.264 {size}, CPU of x264's line", get("encoder", "of_x264_line", size=size), 0.7
    yield "pipeline overhead p99, ms", get("pipeline", "p99", stage="publish"), 0.5
    yield "1,000 viewers, CPU of the bare loop", get("fanout", "of_bare_loop"), 1.3
    yield "memory a viewer, KiB", get("fanout", "kib_per_viewer"), 32
    yield "base memory, MiB", get("startup", "base_rss_mib"), 40e6 / 2**20
    yield "/readyz, slowest of the starts, ms", get("startup", "readyz_ms_max"), 50
    yield "a still picture written 30 times a second, % of a core", get("still", "cpu_pct", written="30 times a second"), 1
    yield "a still picture written once, % of a core", get("still", "cpu_pct", written="once"), 1
    yield "join to first paint p95, ms", get("glass", "p95", server="gsk, join"), 100
    for fps, p50, p95 in ((30, 10, 14), (60, 9, 13)):
        ours = row(figures.get("glass", []), server="gsk, median", fps=fps)
        peer = row(figures.get("glass", []), server="selkies, median", fps=fps)
        yield f"glass at {fps} fps p50, ms", ours.get("p50"), p50
        yield f"glass at {fps} fps p95, ms", ours.get("p95"), p95
        if peer:
            yield f"CPU of Selkies' at {fps} fps", ours["cpu_pct"] / peer["cpu_pct"], 0.8
            seen = [get("glass", "ssim", server=name + ", SSIM", fps=fps) for name in ("selkies", "gsk")]
            if None not in seen:
                yield f"SSIM at {fps} fps, Selkies' less ours", seen[0] - seen[1], 0


def main():
    cases = {f.__name__: f for f in (encoder, pipeline, fanout, startup, still, lease, doctor, glass)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", choices=[[], *cases])
    parser.add_argument("--json", help="write the figures here too")
    options = parser.parse_args()
    # A socket a viewer, at both ends.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    subprocess.run(["cargo", "build", "--release", "--bin", "gsk", "--example", "perf-encode", "--example", "perf-fanout", "--example", "perf-lease"], cwd=ROOT, check=True)
    figures = {}
    with tempfile.TemporaryDirectory(prefix="gsk-perf-") as folder:
        for name in options.case or [name for name in cases if name != "glass" or os.path.exists(GLASS)]:
            figures[name] = cases[name](folder)
            show(name, figures[name], cases[name].__doc__)
    judged = [{"aim": aim, "value": value, "at most": most, "": "met" if value <= most else f"missed by {100 * (value / most - 1):.0f} %" if most else "missed"}
              for aim, value, most in aims(figures) if value is not None]
    if judged:
        show("aims", judged, "Of this run.")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(figures, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    main()
