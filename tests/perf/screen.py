#!/usr/bin/env python3
"""What a viewer sees beside what was painted: luma SSIM, by pictures grabbed off the screens and matched by their time marks.

    tests/perf/screen.py gsk|selkies GSK FPS KBPS

Prints one JSON line. Uses the harness beside the repository (../shared/glass): its painter, its Chromium, its servers' commands.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GLASS = os.path.join(os.path.dirname(ROOT), "shared", "glass")
sys.path.insert(0, GLASS)
import glass  # noqa: E402

WIDTH, HEIGHT, CELL, COLUMNS = 1280, 720, 48, 14
SECONDS = 8
LUMA = WIDTH * HEIGHT
# One matrix for both sides: what a 4:2:0 picture declares as BT.709 comes back as it was.
TO_LUMA = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p,extractplanes=y"


def grab(display, x, y, out):
    """Sixty pictures a second off an X display, as luma planes one after another."""
    return subprocess.Popen(["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "x11grab", "-draw_mouse", "0", "-framerate", "60", "-video_size",
                             f"{WIDTH}x{HEIGHT}", "-i", f"{display}+{x},{y}", "-t", str(SECONDS), "-vf", TO_LUMA, "-f", "rawvideo", out])


def mark(luma):
    """The time mark of a picture (painter.c: 28 squares of 48 px, their middles), or None."""
    on = [luma[(CELL + i // COLUMNS * CELL + CELL // 2) * WIDTH + CELL + i % COLUMNS * CELL + CELL // 2] for i in range(28)]
    if on[0] - on[1] < 80:
        return None
    bits = [2 * level > on[0] + on[1] for level in on[2:]]
    value, check = (sum(bit << place for place, bit in enumerate(reversed(part))) for part in (bits[:20], bits[20:]))
    return value if check == (value ^ value >> 6 ^ value >> 12 ^ value >> 18 ^ 0x2A) & 63 else None


def pictures(path, step):
    """{mark: luma plane}, the first picture of each mark; `step`: bytes from one picture to the next."""
    found = {}
    with open(path, "rb") as planes:
        while len(picture := planes.read(step)) == step:
            value = mark(picture)
            if value is not None:
                found.setdefault(value, picture[:LUMA])
    return found


def ssim(shown, painted, folder):
    both = sorted(shown.keys() & painted.keys())
    paths = [os.path.join(folder, name) for name in ("shown", "painted")]
    for path, side in zip(paths, (shown, painted)):
        with open(path, "wb") as out:
            for value in both:
                out.write(side[value])
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}"]
    run = subprocess.run(["ffmpeg", "-hide_banner", "-nostdin", *raw, "-i", paths[0], *raw, "-i", paths[1], "-lavfi", "ssim", "-f", "null", "-"],
                         check=True, stderr=subprocess.PIPE, text=True)
    return len(both), float(re.search(r"SSIM Y:([0-9.]+)", run.stderr)[1])


def selkies(port, fps, kbps):
    """Selkies as ../shared/glass/run-selkies starts it."""
    return [os.environ.get("SELKIES", "selkies"), "--addr=127.0.0.1", f"--port={port}", "--mode=websockets", "--enable-basic-auth=false",
            "--enable-https=false", "--audio-enabled=false", "--microphone-enabled=false", "--gamepad-enabled=false",
            "--webcam-enabled=false", "--enable-clipboard=false", "--command-enabled=false", "--file-transfers=none",
            "--enable-resize=false", "--manual-resolution=true", "--manual-width=1280", "--manual-height=720", "--use-cpu=true",
            "--auto-gpu=false", "--encoder=h264enc", f"--framerate={fps}-{fps}", "--rate-control-mode=cbr", f"--video-bitrate={kbps}-{kbps}"]


def main():
    name, gsk, fps, kbps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with tempfile.TemporaryDirectory(prefix="gsk-screen-") as folder, glass.Children() as kids:
        shown, painted, port = os.path.join(folder, "grabbed"), os.path.join(folder, "source"), glass.free_port()
        paint = [glass.painter(), "--fps", str(fps * (1 - 1 / 300))]
        env, display = dict(os.environ, HOME=folder, XDG_RUNTIME_DIR=folder), None
        if name == "gsk":
            painter = kids.start([*paint, "--pipe", "raw"], stdout=subprocess.PIPE)
            tee = kids.start(["tee", painted], stdin=painter.stdout, stdout=subprocess.PIPE)
            kids.start([gsk, "serve", "--listen", str(port), "--source", "-", "--size", f"{WIDTH}x{HEIGHT}", "--pixel-format", "i420", "--fps",
                        str(fps), "--bitrate", f"{kbps}k"], env=env, stdin=tee.stdout)
        else:
            display, _ = kids.xvfb()
            kids.start([*paint, "--display", display])
            time.sleep(2)
            kids.start(selkies(port, fps, kbps), env=dict(env, DISPLAY=display), cwd=folder)
        glass.wait_port(port)
        screen, _ = kids.xvfb("1400x1000")
        with glass.Chromium(["--window-position=0,0", "--window-size=1400,1000"], screen) as browser:
            page = glass.Page(browser)
            page.open(f"http://127.0.0.1:{port}/")
            page.first()
            time.sleep(3)
            x, y = page.corner(screen)
            page.js("Object.assign(__glass, {quiet: true}) && 0")
            before = glass.loopback_bytes()
            grabs = [grab(screen, x, y, shown)]
            if display:
                # The source is seen a little earlier than its picture on the screen.
                grabs.append(grab(display, 0, 0, painted))
            assert [one.wait() for one in grabs] == [0] * len(grabs)
            used = (glass.loopback_bytes() - before) * 8 / SECONDS / 1e3
        for child in list(kids.all):
            kids.stop(child)
        count, value = ssim(pictures(shown, LUMA), pictures(painted, LUMA if display else LUMA * 3 // 2), folder)
    print(json.dumps({"ssim": value, "pictures": count, "loopback_kbps": round(used)}))


if __name__ == "__main__":
    main()
