"""The picture reaches the screen by each way: how often, how soon, and in which colours."""
import json
import os
import re
import struct
import time
import zlib

import feed
from chromium import SHADERS, Page
from server import Gsk, feeder


def _rate(test, page, least):
    """Pictures a second by the scene's own marks, and by the page's count. A machine that others took from gets a second try."""
    for attempt in (1, 2):
        rate = page.js(f"probe.count({test.seconds * 1000})")
        painted = rate["painted"]
        test.say(f"{rate['marks']:.2f} different pictures a second over {test.seconds:g} s"
                 + ("" if painted is None else f", {painted:.2f} by the page's count") + (", again" if attempt == 2 else ""))
        if min(v for v in rate.values() if v is not None) >= least:
            return
    raise AssertionError(f"fewer than {least} pictures a second were painted")


def _plays(test, browser, via, sink, path):
    with Gsk("--instance-id", "omega-7", log=test.log) as gsk:
        page = Page(browser)
        page.open(f"{gsk.url}?via={via}")
        page.playing()
        page.until("performance.now() > 3000")  # what starting costs is over
        _rate(test, page, 28)
        stats = page.stats()
        assert (stats["via"], stats["sink"], stats["state"], stats["errors"]) == (via, sink, "streaming", []), stats
        assert page.js("probe.age()") < 1000, "the picture is old"
        page.key("i")
        page.until("document.getElementById('facts').innerText.includes('fps')")
        page.until("gsk.stats().latency.encode")
        facts = page.js("Object.fromEntries([...document.querySelectorAll('#facts dt')].map(d => [d.textContent, d.nextSibling.textContent]))")
        test.say(facts)
        assert facts["path"].startswith(path), facts
        assert facts["viewers"] == "1", facts
        # What encodes is told on each way, in the worker's own words.
        encoder = next(e for e in gsk.get("/status")["encoders"] if e["codec"] == ("jpeg" if via == "mjpeg" else "h264"))
        fallback = encoder["fallback"]
        assert facts["encoder"] == f"{encoder['backend']} ({'hardware' if encoder['hardware'] else 'software'})", (facts, encoder)
        assert facts["fallback"] == (f"{fallback['from']}: {fallback['detail']}" if fallback else "–"), (facts, encoder)
        if via != "mjpeg":
            assert re.match(r"avc1\.42", facts["codec"]) and facts["encoder"].startswith("openh264"), facts
        test.shot(page, "panel")
        page.check()


def webcodecs(test, browser):
    _plays(test, browser, "webcodecs", "video track", "WebCodecs")


def mse(test, browser):
    _plays(test, browser, "mse", "video", "MediaSource")


def mjpeg(test, browser):
    _plays(test, browser, "mjpeg", "image", "MJPEG")


def late(test, browser):
    """A delay that is planted in the page's decoder, or in its painting, is in that stage's figure and in the total, and nowhere else."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "late.js"), encoding="utf-8") as file:
        script = file.read()

    def medians(gsk, via, planted):
        page = Page(browser, before=f"{script}\nlate({json.dumps(planted)});")
        page.open(f"{gsk.url}?via={via}")
        page.playing()
        page.key("i")
        page.until("gsk.stats().painted > 70 && gsk.stats().latency.total")
        latency = page.stats()["latency"]
        page.check()
        page.close()
        return {stage: latency[stage]["p50"] for stage in ("network", "decode", "paint", "total")}

    for via in ("webcodecs", "mjpeg"):
        with Gsk("--size", "320x180", "--fps", "20", log=test.log) as gsk:
            before = medians(gsk, via, {})
            for stage in ("decode", "paint"):
                after = medians(gsk, via, {stage: 30})
                more = {name: round(after[name] - before[name], 1) for name in before}
                test.say(f"{via}: 30 ms in {stage}: {more} ms more than {before}")
                assert all(abs(more[name] - (30 if name in (stage, "total") else 0)) < 14 for name in more), (via, stage, more)


def joins(test, browser):
    """How long a fresh tab takes to its first picture."""
    with Gsk(log=test.log) as gsk:
        warm = Page(browser)
        warm.open(gsk.url)
        warm.playing()
        times = []
        for _ in range(10):
            page = Page(browser)
            page.open(gsk.url)
            times.append(round(page.until("probe.first", 10)))
            page.check()
            page.close()
        test.say(f"first picture after {sorted(times)[5]} ms (p50 of {sorted(times)})")
        warm.check()


def lasting_mse(test, browser):
    """MediaSource trims its buffer without asking for a key frame every few seconds: all viewers pay for those."""
    with Gsk("--size", "320x180", log=test.log) as gsk:
        page = Page(browser)
        page.open(f"{gsk.url}?via=mse")
        page.playing()
        page.until("performance.now() > 3000")
        before = page.sent["keyframe"]
        page.js("new Promise(resolve => setTimeout(resolve, 20000))")
        asked = page.sent["keyframe"] - before
        test.say(f"{asked} key frames asked for in 20 s")
        assert asked <= 1, f"{asked} key frames asked for in 20 s"
        # Somebody else's key frame is where the buffer is cut, and nothing is seen of it.
        other = Page(browser)
        other.open(gsk.url)
        other.playing()
        page.until("document.querySelector('video').buffered.start(0) > 15", 5, "the buffer is trimmed at another viewer's key frame")
        rate = page.js("probe.count(2000)")
        assert rate["painted"] > 20 and page.stats()["errors"] == [], (rate, page.stats())
        page.check()
        page.close()
    # Where much comes, the buffer's bytes are bounded: one is asked for, and what lies before it goes.
    with Gsk("--bitrate", "60M", "--size", "640x480", "--pixel-format", "rgb24", *feeder("noise", 640, 480), log=test.log) as gsk:
        page = Page(browser, (960, 600))
        page.open(f"{gsk.url}?via=mse")
        page.until("gsk.stats().state === 'streaming' && !probe.words()")
        page.until("(b => b.length && b.start(0) > 1)(document.querySelector('video').buffered)", 45, "the buffer is trimmed")
        test.say(f"trimmed after {page.js('document.querySelector(`video`).currentTime'):.1f} s at {page.stats()['bitrate_bps'] / 1e6:.0f} Mbit/s, "
                 f"{page.sent['keyframe']} key frames asked for")
        assert page.stats()["errors"] == [] and page.stats()["via"] == "mse", page.stats()
        page.check()


def _png(data):
    """Width and rows of RGB triples of an 8-bit PNG without interlace."""
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (2, 6) and not interlaced
            step = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, rows, last = zlib.decompress(packed), [], bytes(width * step)
    for y in range(height):
        start = y * (width * step + 1)
        kind, line = raw[start], bytearray(raw[start + 1:start + 1 + width * step])
        for i in range(len(line)) if kind else ():
            left, up, corner = (line[i - step], last[i], last[i - step]) if i >= step else (0, last[i], 0)
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            else:
                p = left + up - corner
                guess = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
            line[i] = (line[i] + guess) & 255
        rows.append([line[i:i + 3] for i in range(0, len(line), step)])
        last = line
    return rows


def _screenshot_patches(data):
    rows = _png(data)
    width, height = len(rows[0]) // feed.COLUMNS, len(rows) // feed.ROWS
    means = []
    for i in range(feed.COLUMNS * feed.ROWS):
        x, y = i % feed.COLUMNS * width, i // feed.COLUMNS * height
        patch = [pixel for row in rows[y + height // 4:y + height * 3 // 4] for pixel in row[x + width // 4:x + width * 3 // 4]]
        means.append([sum(p[c] for p in patch) / len(patch) for c in range(3)])
    return means


def _compare(test, what, means):
    off = [max(abs(a - b) for a, b in zip(mean, colour)) for mean, colour in zip(means, feed.COLOURS)]
    worst = max(range(len(off)), key=off.__getitem__)
    test.say(f"{what}: at most {off[worst]:.1f} of 255 off, at {feed.COLOURS[worst]} shown as {[round(v, 1) for v in means[worst]]}")
    assert off[worst] <= 4, f"{what}: {off[worst]:.1f} of 255 off"


def colours(test, browser):
    """A test card goes in as RGB and comes out of the screen within 4 of 255."""
    for via in ("webcodecs", "mse", "mjpeg"):
        with Gsk("--size", "640x480", "--pixel-format", "rgb24", "--jpeg-quality", "90", *feeder("card", 640, 480), log=test.log) as gsk:
            page = Page(browser, (640, 480))
            page.open(f"{gsk.url}?via={via}")
            page.until("gsk.stats().state === 'streaming' && probe.patches(1, 1)")
            page.until("document.getElementById('bar').classList.contains('away')")
            _compare(test, via, page.js(f"probe.patches({feed.COLUMNS}, {feed.ROWS})"))
            _compare(test, f"{via}, on the screen", _screenshot_patches(test.shot(page, via)))
            page.check()
            page.close()


colours.flags = SHADERS


def codecs(test, browser):
    """AV1 where it was asked for, on both ways that carry it; H.264, and a word, where the browser has no decoder."""
    driver = json.loads(os.environ["GSK_TEST_DRIVER"])

    def facts(page):
        page.key("i")
        page.until("document.getElementById('facts').innerText.includes('fps')")
        return page.js("Object.fromEntries([...document.querySelectorAll('#facts dt')].map(d => [d.textContent, d.nextSibling.textContent]))")

    with Gsk("--codec", "av1", "--size", "320x180", log=test.log, env=driver) as gsk:
        for via in ("webcodecs", "mse"):
            page = Page(browser)
            page.open(f"{gsk.url}?via={via}")
            page.playing()
            # Not how often: what the stand-in writes is lossless, and takes its time.
            page.until("gsk.stats().painted > 30", 30)
            seen = facts(page)
            test.say(seen)
            assert re.fullmatch(r"av01\.0\.\d\dM\.08", seen["codec"]) and seen["encoder"] == "nvenc (hardware)", seen
            stats = page.stats()
            assert (stats["via"], stats["errors"]) == (via, []), stats
            test.shot(page, f"av1-{via}")
            page.check()
            page.close()
        # Who wants another is given it.
        page = Page(browser)
        page.open(f"{gsk.url}?codec=h264")
        page.playing()
        assert facts(page)["codec"].startswith("avc1.64"), facts(page)
        page.close()
    with Gsk("--codec", "hevc", "--size", "640x360", log=test.log, env=driver) as gsk:
        for via in ("webcodecs", "mse"):
            page = Page(browser)
            page.open(f"{gsk.url}?via={via}")
            page.playing()
            page.until("!document.getElementById('notice').hidden")
            told = page.js("document.getElementById('notice').textContent")
            assert told == "This browser cannot decode HEVC. Now watching H.264.", told
            seen = facts(page)
            assert re.fullmatch(r"avc1\.64....?, as this browser cannot decode HEVC", seen["codec"]), seen
            test.shot(page, f"hevc-{via}")
            page.check()
            page.close()
        assert [e["codec"] for e in gsk.get("/status")["encoders"] if e["open"]] == ["h264"], "HEVC was never encoded"
    # A worker that has no such encoder says so to who asks for it.
    with Gsk("--size", "640x360", log=test.log) as gsk:
        page = Page(browser)
        page.open(f"{gsk.url}?codec=av1")
        page.playing()
        told = page.js("document.getElementById('notice').textContent")
        assert told == "This worker encodes no AV1. Now watching H.264.", told
        page.check()
        page.close()
    # What the engine converts itself looks as what gsk converts.
    for words in (["--codec", "av1"], ["--codec", "av1", "--nvenc-input", "argb"], ["--nvenc-input", "argb"]):
        card = ["--size", "640x480", "--pixel-format", "rgb24", *feeder("card", 640, 480)]
        with Gsk(*words, *card, log=test.log, env=driver) as gsk:
            page = Page(browser, (640, 480))
            page.open(gsk.url)
            page.until("gsk.stats().state === 'streaming' && probe.patches(1, 1)")
            page.until("document.getElementById('bar').classList.contains('away')")
            _compare(test, " ".join(words), page.js(f"probe.patches({feed.COLUMNS}, {feed.ROWS})"))
            page.check()
            page.close()


codecs.flags = SHADERS


def bare_mjpeg(test, browser):
    """The multipart stream by itself, from a source that stands still between pictures: each is shown when it comes."""
    note = test.path(".note")
    with Gsk("--size", "320x240", "--pixel-format", "rgb24", *feeder("steps", 320, 240, note), log=test.log) as gsk:
        page = Page(browser, (160, 120))
        page.cdp("Page.navigate", url=gsk.url + "stream.mjpg")
        page.until("location.pathname === '/stream.mjpg'")

        def shows(colour, within):
            began = time.monotonic()
            while True:
                pixel = _png(page.screenshot())[60][80]
                if all(abs(a - b) < 30 for a, b in zip(pixel, colour)):
                    return time.monotonic() - began
                assert time.monotonic() - began < within, f"{colour} is not shown within {within} s, but {tuple(pixel)}"

        shows(feed.COLOURS[4], 10)
        for colour in (feed.COLOURS[5], feed.COLOURS[6], feed.COLOURS[4]):
            open(note, "w", encoding="utf-8").close()
            # The keepalive, 2 s later, would bring it in any case.
            test.say(f"{colour} is on the screen {shows(colour, 1):.2f} s after it was drawn")
        page.close()


def overflow(test, browser):
    """A viewer that cannot take what comes for some seconds skips, and plays on when it can, near the live edge."""
    for via in ("mse", "webcodecs", "mjpeg"):
        with Gsk("--bitrate", "60M", "--size", "640x480", "--pixel-format", "rgb24", *feeder("noise", 640, 480), log=test.log) as gsk:
            page = Page(browser, (960, 600))
            page.open(f"{gsk.url}?via={via}")
            page.until("gsk.stats().state === 'streaming' && probe.patches(1, 1) && !probe.words()")
            page.js("window.stays = true")
            # The page's own thread, which reads the stream, does nothing else until what lies between is full.
            page.post("Runtime.evaluate", expression="const end = Date.now() + 12000; while (Date.now() < end);")
            end, skipped = time.monotonic() + 11, 0
            while not skipped and time.monotonic() < end:
                skipped = gsk.get("/status")["frames_dropped_by"]["slow_viewer"]
                time.sleep(0.1)
            assert skipped, "the viewer was never too slow"
            page.until("stays", 20)
            began = time.monotonic()
            page.until("(async () => { const n = gsk.stats().painted; await new Promise(r => setTimeout(r, 1000)); return gsk.stats().painted - n > 20; })()")
            test.say(f"{via}: {skipped} frames skipped; plays on at full rate {time.monotonic() - began:.1f} s after")
            stats = page.stats()
            assert stats["via"] == via and stats["reconnects"] == 0 and not page.words(), (stats, page.words())
            if via == "mse":
                page.until("(() => { const v = document.querySelector('video'); return v.buffered.end(v.buffered.length - 1) - v.currentTime < 0.3; })()")
            else:
                page.until("gsk.stats().latency.total && gsk.stats().latency.total.p50 < 300")
            page.check()
            page.close()


def still(test, browser):
    """A scene that stands still says nothing is wrong, and goes on without a new connection."""
    for via in ("mse", "webcodecs", "mjpeg"):
        with Gsk(log=test.log) as gsk:
            page = Page(browser)
            page.open(f"{gsk.url}?via={via}")
            page.playing()
            page.js("window.stays = true; document.getElementById('stage').focus()")
            page.key(" ", "Space")
            # The last pictures arrive; then, over two keepalives and more, none differs.
            page.until("(async () => { const v = probe.mark(); await new Promise(r => setTimeout(r, 500)); return v === probe.mark(); })()")
            page.js("(async () => { window.covered = ''; window.changed = 0; const was = probe.mark(), end = Date.now() + 10000;"
                    "while (Date.now() < end) { covered = covered || probe.words(); changed += probe.mark() !== was;"
                    "await new Promise(r => setTimeout(r, 100)); } })()")
            test.say(f"{via}: still for 10 s; words {page.js('covered')!r}, {page.js('changed')} readings differ")
            assert page.js("covered") == "" and page.js("changed") == 0
            test.shot(page, via)
            page.key(" ", "Space")
            page.playing(3)
            page.until("probe.age() < 700", 5, "a picture from less than 0.7 s ago")
            rate = page.js("probe.count(2000)")
            stats = page.stats()
            test.say(f"{via}: goes on with {rate['marks']:.1f} pictures a second")
            assert rate["marks"] > 20 and stats["reconnects"] == 0 and stats["errors"] == [] and page.js("stays"), (rate, stats)
            page.check()
            page.close()
