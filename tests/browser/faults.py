"""What the page says while there is no picture, and how it gets one back."""
import json
import os
import re
import time

from chromium import Page
from server import Gsk, feeder

# A browser itself writes into the console that a connection was refused or broke.
BROKEN = r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"


def restart(test, browser):
    """The server dies and is started again on its port: the picture is back within 3 s."""
    for via in ("webcodecs", "mse", "mjpeg"):
        with Gsk(log=test.log) as gsk:
            page = Page(browser)
            page.allowed.append(BROKEN)
            page.open(f"{gsk.url}?via={via}")
            page.playing()
            page.js("window.stays = true")
            gsk.kill()
            words = page.says("reconnecting in", 3)
            page.until("gsk.stats().reconnects >= 2")
            test.shot(page, f"{via}-gone")
            assert words.startswith("the connection to the server is gone"), words
            gsk.start()
            page.playing(10)
            took = time.monotonic() - gsk.began
            test.say(f"{via}: {words!r}; the picture is back {took:.2f} s after the server's start")
            assert took < 3 and page.js("stays") and page.stats()["via"] == via
            page.until("probe.age() < 700", 5)
            test.shot(page, f"{via}-back")
            page.check()
            page.close()


def _raw(gsk_args, test):
    return Gsk("--size", "640x480", "--pixel-format", "rgb24", *gsk_args, log=test.log)


def _card(page):
    page.until("gsk.stats().state === 'streaming' && probe.patches(1, 1) && !probe.words()")


def program_fails(test, browser):
    """The only source ends with 3: its reason is shown, and the server's code is the program's."""
    with _raw(feeder("exit3", 640, 480), test) as gsk:
        page = Page(browser, (960, 600))
        page.allowed.append(BROKEN)
        page.open(gsk.url)
        _card(page)
        page.says("code 3", 10)
        # The connection ends a moment later, and the reason stays.
        words = page.says("reconnecting", 10)
        test.shot(page, "words")
        test.say(repr(words))
        assert "code 3" in words, words
        assert gsk.process.wait(5) == 3, gsk.process.returncode
        # Later attempts keep the reason in view.
        page.until("gsk.stats().reconnects >= 2")
        assert "code 3" in page.words(), page.words()
        page.check()


def program_again(test, browser):
    """A program that fails is started again, and the picture goes on by itself, by each way."""
    for via in ("webcodecs", "mse", "mjpeg"):
        with _raw(["--restart", "on-failure", *feeder("exit3", 640, 480)], test) as gsk:
            page = Page(browser, (960, 600))
            page.open(f"{gsk.url}?via={via}")
            _card(page)
            words = page.says("the source failed", 10)
            _card(page)
            test.say(f"{via}: {words!r}, and then it plays on")
            page.says("the source failed", 10)
            _card(page)
            page.check()
            page.close()


def truncated(test, browser):
    with _raw(feeder("truncated", 640, 480), test) as gsk:
        page = Page(browser, (960, 600))
        page.allowed.append(BROKEN)
        page.open(gsk.url)
        _card(page)
        words = page.says("inside frame 61", 10)
        test.shot(page, "words")
        test.say(repr(words))
        assert gsk.process.wait(5) == 1, gsk.process.returncode
        page.check()


def hang(test, browser):
    """A program that stops in mid-frame is reported within 1 s."""
    note = test.path(".note")
    for via in ("webcodecs", "mse", "mjpeg"):
        with _raw(feeder("hang", 640, 480, note), test) as gsk:
            page = Page(browser, (960, 600))
            page.open(f"{gsk.url}?via={via}")
            _card(page)
            words = page.says("the source failed", 10)
            with open(note, encoding="utf-8") as file:
                took = time.monotonic() - float(file.read())
            os.remove(note)
            test.shot(page, f"{via}-words")
            test.say(f"{via}: {words!r} {took:.2f} s after the last byte")
            assert "of frame 151" in words and took < 1.5, (words, took)
            page.check()
            page.close()


def text(test, browser):
    """A program that prints words: what came is quoted."""
    with Gsk(*feeder("text", 640, 480), log=test.log) as gsk:
        page = Page(browser, (960, 600))
        page.open(gsk.url)
        words = page.says("the source failed", 10)
        test.shot(page, "words")
        test.say(repr(words))
        assert "this is no p" in words, words
        page.check()


def waiting(test, browser):
    """Before the first frame the page says that it waits for one, by each way, and plays when it comes."""
    note = test.path(".note")
    for via in ("webcodecs", "mse", "mjpeg"):
        with _raw(feeder("late", 640, 480, note), test) as gsk:
            page = Page(browser, (960, 600))
            page.open(f"{gsk.url}?via={via}")
            words = page.says("waiting for the first frame", 5)
            test.shot(page, f"{via}-words")
            open(note, "w", encoding="utf-8").close()
            began = time.monotonic()
            _card(page)
            test.say(f"{via}: {words!r}; the picture {time.monotonic() - began:.2f} s after the first frame")
            os.remove(note)
            page.check()
            page.close()


def full(test, browser):
    """Who comes when all places are taken is told so, and is let in when one is free."""
    for via in ("webcodecs", "mse", "mjpeg"):
        with Gsk("--max-viewers", "1", log=test.log) as gsk:
            first = Page(browser, (960, 600))
            first.open(gsk.url)
            first.playing()
            second = Page(browser, (960, 600))
            second.allowed.append("503")
            second.open(f"{gsk.url}?via={via}")
            words = second.says("places for viewers are taken", 5)
            assert "encoder slot" not in words, words
            test.shot(second, f"{via}-words")
            first.check()
            first.close()
            began = time.monotonic()
            second.playing(8)
            test.say(f"{via}: {words!r}; let in {time.monotonic() - began:.2f} s after a place was free")
            second.check()
            second.close()


def no_slot(test, browser):
    """Who watches a worker without an encoder slot is told who holds it, and sees the picture when it is free."""
    driver = json.loads(os.environ["GSK_TEST_DRIVER"])

    def worker(name):
        return Gsk("--instance-id", name, "--slots", "1", "--size", "640x360", log=test.log, env=driver)
    for via, bound in (("webcodecs", 2), ("mse", 5)):
        with worker("omega-0") as holder, worker("omega-1") as lacks:
            first = Page(browser, (960, 600))
            first.allowed.append(BROKEN)
            first.open(holder.url)
            first.playing()
            encoder = holder.get("/status")["encoder"]
            assert encoder["backend"] == "nvenc", encoder
            page = Page(browser, (960, 600))
            page.allowed.append("503")
            page.open(f"{lacks.url}?via={via}")
            words = page.says("no encoder slot", 5)
            assert words == f"no encoder slot: 1 of 1 held by omega-0 (pid {holder.process.pid})", words
            test.shot(page, f"{via}-words")
            # JPEG needs none.
            still = Page(browser, (960, 600))
            still.open(f"{lacks.url}?via=mjpeg")
            still.playing()
            still.close()
            holder.kill()
            began = time.monotonic()
            page.playing(8)
            took = time.monotonic() - began
            test.say(f"{via}: {words!r}; the picture {took:.2f} s after the holder's death")
            assert took < bound, took
            page.check()
            page.close()
            first.close()


def slow_h264(test, browser):
    """Where H.264 is too slow for the host the page is brought to JPEG on the same connection, and back where JPEG does not fit."""
    with Gsk("--size", "2560x1440", "--fps", "120", "--bitrate", "200M", log=test.log) as gsk:
        page = Page(browser, (960, 600))
        page.open(gsk.url)
        page.until("gsk.stats().via === 'webcodecs' && gsk.stats().painted > 0", 20)
        # Whether anything was ever shown but a picture.
        page.js("""window.blank = 0; setInterval(() => {
            const seen = [...document.querySelectorAll('#picture > *')].filter(e => e.checkVisibility());
            if (seen.length === 0) window.blank++;
        }, 5); 0""")
        page.until("gsk.stats().via === 'mjpeg' && gsk.stats().sink === 'image' && gsk.stats().painted > 3", 60)
        stats, said = page.stats(), page.js("document.getElementById('notice').innerText")
        assert "JPEG pictures, not H.264: this host is too slow for H.264" in said, said
        page.key("i")
        facts = page.until("document.getElementById('facts').innerText")
        assert "too slow for H.264" in facts and "jpeg (software)" in facts, facts
        assert "the server gives JPEG" in facts and re.search(r"since\n\S*20\d\d", facts), facts
        test.shot(page, "jpeg")
        edges = page.js("[document.getElementById('notice').getBoundingClientRect().right, document.getElementById('panel').getBoundingClientRect().left]")
        assert edges[0] <= edges[1], f"the notice ends at {edges[0]}, the panel begins at {edges[1]}"
        # A reason of this length fits a phone.
        page.resize((360, 640), mobile=True)
        wide = "[...document.querySelectorAll('#panel, #notice, #bar, #facts dd')].filter(e => e.checkVisibility()" \
               " && (e.scrollWidth > e.clientWidth || e.getBoundingClientRect().right > innerWidth)).map(e => e.id || e.textContent)"
        assert page.js(wide) == [], page.js(wide)
        lines = page.js("(n => n.clientHeight / parseFloat(getComputedStyle(n).lineHeight))(document.getElementById('notice'))")
        assert lines < 6, f"{lines} lines: the notice has the width of the screen"
        test.shot(page, "jpeg-phone")
        page.resize((960, 600))
        assert stats["reconnects"] == 0 and stats["errors"] == [] and page.words() == "", stats
        page.js("""new Promise(done => {
            const other = new WebSocket(location.origin.replace('http', 'ws') + '/ws?video=none', 'gsk.v1');
            other.onopen = () => { other.send(JSON.stringify({ type: 'quality', bitrate_bps: 1000000 })); setTimeout(done, 100); };
        })""")
        page.until("gsk.stats().via === 'webcodecs' && gsk.stats().sink === 'video track'", 30)
        page.playing()
        stats = page.stats()
        test.say(f"there and back: {stats}; {page.js('blank')} looks at nothing")
        assert stats["reconnects"] == 0 and stats["errors"] == [] and page.js("blank") == 0, (stats, page.js("blank"))
        assert page.js("document.querySelectorAll('#picture canvas').length") == 1, "the other way has left"
        page.until("!document.getElementById('facts').innerText.includes('JPEG')", 5, "the panel tells of H.264")
        test.shot(page, "h264")
        page.check()


def token(test, browser):
    """Without a token the page says which link is needed; with it, it plays, and the address bar forgets the token."""
    secret, file = "0123456789abcdef-secret", test.path(".token")
    with open(file, "w", encoding="utf-8") as out:
        out.write(secret + "\n")
    with Gsk("--token-file", file, log=test.log) as gsk:
        assert gsk.url.endswith(f"#token={secret}"), gsk.url
        bare = gsk.url.split("#")[0]
        page = Page(browser, (960, 600))
        page.allowed.append("401|WebSocket connection to")
        page.open(bare)
        test.say(repr(page.says("a token is needed", 5)))
        test.shot(page, "none")
        page.js(f"location.hash = 'token=0123456789abcdef-wrong'")
        test.say(repr(page.says("not the right one", 5)))
        assert "token" not in page.js("location.href")
        test.shot(page, "wrong")
        # The right link, in the same tab: only its fragment differs, so the page is not loaded anew.
        page.js(f"location.hash = 'token={secret}'")
        page.playing(5)
        assert "token" not in page.js("location.href + document.cookie")
        test.shot(page, "right")
        page.check()
        # The cookie lets other tabs in, and every way to the picture.
        for via in ("mse", "mjpeg"):
            other = Page(browser, (960, 600))
            other.open(f"{bare}?via={via}")
            other.playing()
            other.check()
            other.close()
    os.remove(file)


def ways(test, browser):
    """What a browser lacks is passed over, with the reason; a way that was asked for by name and is not there is an error."""
    gone = {"webcodecs": "delete window.VideoDecoder;", "mse": "delete window.MediaSource; delete window.ManagedMediaSource;"}
    with Gsk(log=test.log) as gsk:
        for before, via, because in ((gone["webcodecs"], "mse", "no WebCodecs"), ("".join(gone.values()), "mjpeg", "no WebCodecs"),
                                     ("window.MediaStreamTrackGenerator = undefined;", "webcodecs", None)):
            page = Page(browser, before=before)
            page.open(gsk.url)
            page.playing()
            stats = page.stats()
            test.say(f"{stats['via']} by {stats['sink']}: {stats['errors']}")
            assert stats["via"] == via, stats
            if because:
                page.key("i")
                assert because in page.until("document.getElementById('facts').innerText")
            else:
                assert stats["sink"] == "canvas", stats
                page.until("gsk.stats().painted > 30")
            test.shot(page, stats["sink"].replace(" ", "-"))
            page.check()
            page.close()
    with Gsk("--encoder", "jpeg", log=test.log) as gsk:
        page = Page(browser, (960, 600))
        page.open(gsk.url)
        page.playing()
        stats = page.stats()
        test.say(f"{stats['via']} by {stats['sink']}: {stats['errors']}")
        assert stats["via"] == "mjpeg" and all("JPEG only" in error for error in stats["errors"]), stats
        test.shot(page, "jpeg-only")
        page.check()
        page.close()
        page = Page(browser, (960, 600))
        page.open(f"{gsk.url}?via=mse")
        test.say(repr(page.says("MediaSource cannot go on: this worker encodes JPEG only", 5)))
        page.check()
        page.close()
    with Gsk(log=test.log) as gsk:
        page = Page(browser, (960, 600), before=gone["webcodecs"])
        page.open(f"{gsk.url}?via=webcodecs")
        test.say(repr(page.says("WebCodecs was asked for by .via=webcodecs, but this browser has no WebCodecs", 5)))
        assert page.stats()["state"] == "error"
        test.shot(page, "missing")
        page.check()
        page.close()
        page = Page(browser, (960, 600))
        page.open(f"{gsk.url}?via=smoke-signals")
        page.playing()
        said = page.until("!document.getElementById('notice').hidden && document.getElementById('notice').innerText")
        assert "smoke-signals is not known" in said, said
        test.shot(page, "unknown")
        page.check()


def decoder_fails(test, browser):
    """A decoder that fails twice is left for MediaSource, and the page says so."""
    # The page's worker is made from text that is in the page: a decoder that refuses every picture is put before it.
    before = """
        const Real = Blob;
        window.Blob = class extends Real {
            constructor(parts, options) {
                const bad = `VideoDecoder = class { constructor(to) { this.to = to; this.state = 'unconfigured'; this.decodeQueueSize = 0; }
                    configure() { this.state = 'configured'; }
                    decode() { const to = this.to; queueMicrotask(() => to.error(new Error('no such luck'))); }
                    close() { this.state = 'closed'; } };`;
                super(options && options.type === 'text/javascript' ? [bad, ...parts] : parts, options);
            }
        };"""
    with Gsk(log=test.log) as gsk:
        page = Page(browser, before=before)
        page.open(gsk.url)
        page.playing()
        stats = page.stats()
        said = page.until("!document.getElementById('notice').hidden && document.getElementById('notice').innerText")
        test.say(f"{said!r}, {stats['errors']}")
        assert stats["via"] == "mse" and "no such luck" in said, (said, stats)
        test.shot(page, "notice")
        page.check()
