"""The person's input reaches the scene, and its effect the screen."""
import time

from chromium import Page
from server import Gsk


def _apart(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


def _settled(page):
    """The picture once two readings, some frames apart, agree."""
    page.js("window.was = null")
    page.until("(async () => { const a = probe.thumb().join(); await new Promise(r => setTimeout(r, 300)); return probe.thumb().join() === a; })()")
    return page.js("probe.thumb()")


def _row(name, pattern):
    """Whether the panel's row reads so; that of the viewers does once the server's figures are there."""
    return f"/{pattern}/.test([...document.querySelectorAll('#facts dt')].find(d => d.textContent === '{name}').nextSibling.textContent)"


def _open(browser, gsk, query="", **more):
    page = Page(browser, **more)
    page.open(gsk.url + query)
    page.playing()
    page.js("document.getElementById('stage').focus()")
    return page


def drag(test, browser):
    """Dragging turns the scene, and how long that takes to be seen is shown."""
    with Gsk(log=test.log) as gsk:
        for via in ("webcodecs", "mse", "mjpeg"):
            page = _open(browser, gsk, f"?via={via}")
            page.key("0", "Digit0")
            page.key(" ", "Space")
            before = _settled(page)
            test.shot(page, f"{via}-before")
            page.drag([(500 + 20 * i, 400) for i in range(16)])
            after = _settled(page)
            test.shot(page, f"{via}-after")
            turned = _apart(before, after)
            page.mouse("mouseWheel", 640, 360, deltaX=0, deltaY=-240)
            zoomed = _apart(after, _settled(page))
            test.say(f"{via}: the drag changed the picture by {turned:.1f} of 255, the wheel by {zoomed:.1f}")
            assert turned > 4 and zoomed > 2
            numbers = [said["view"] for said in page.told]
            assert numbers == sorted(set(numbers)) and all(0 <= s.get("x", 0) <= 1 for s in page.told), page.told
            if via == "webcodecs":
                page.key("i")
                page.drag([(500 + 20 * i, 300) for i in range(16)])
                delay = page.until("gsk.stats().input_to_picture_ms", 5)
                row = "[...document.querySelectorAll('#facts dt')].find(d => d.textContent === 'input to picture').nextSibling.textContent"
                shown = page.until(f"/^\\d/.test({row}) && {row}")
                test.say(f"input to picture: {delay}, shown as {shown!r}")
                assert 0 < delay["p50"] < 1000, delay
                test.shot(page, "panel")
            page.key(" ", "Space")
            page.playing()
            page.check()
            page.close()


def touch(test, browser):
    """A finger turns the scene, two pan and zoom it."""
    with Gsk(log=test.log) as gsk:
        page = _open(browser, gsk, size=(375, 667), mobile=True)
        page.key(" ", "Space")
        before = _settled(page)
        page.touch("touchStart", (120, 330))
        for i in range(12):
            page.touch("touchMove", (120 + 12 * i, 330))
        page.touch("touchEnd")
        turned = _settled(page)
        page.touch("touchStart", (150, 330), (220, 330))
        for i in range(12):
            page.touch("touchMove", (150 - 6 * i, 330), (220 + 6 * i, 330))
        page.touch("touchEnd")
        zoomed = _settled(page)
        test.say(f"one finger changed the picture by {_apart(before, turned):.1f} of 255, two by {_apart(turned, zoomed):.1f}")
        assert _apart(before, turned) > 4 and _apart(turned, zoomed) > 2
        kinds = {said["event"] for said in page.told}
        assert {"pointer", "wheel", "key"} <= kinds, kinds
        # Every button that went down came up.
        assert [said for said in page.told if said["event"] == "pointer"][-1]["buttons"] == 0
        test.shot(page, "zoomed")
        page.check()


def quality(test, browser):
    """Another bit rate is chosen by keyboard: the running encoder takes it up, with no key frame, and every page shows it."""
    def measured(gsk, good, what, within=15):
        end = time.monotonic() + within
        while True:
            rate = gsk.get("/status")["bitrate_bps"]
            if rate and good(rate):
                return rate
            assert time.monotonic() < end, f"{what}: {rate} is measured"
            time.sleep(0.1)

    def panel(page):
        page.key("i")
        page.until("document.getElementById('quality').checkVisibility()")

    shown = "Number(document.getElementById('bitrate').value)"
    made = "Number(document.getElementById('made').textContent.replace('now ', '')) * 1e6"
    with Gsk("--bitrate", "3M", log=test.log) as gsk:
        page = _open(browser, gsk)
        panel(page)
        offered = page.js("[...document.getElementById('bitrate').options].map(o => o.textContent)")
        assert offered == ["3 Mbit/s (most)", "1.5 Mbit/s", "0.75 Mbit/s", "0.38 Mbit/s"], offered
        assert page.js(shown) == 3e6
        assert "all viewers" in page.js("document.getElementById('quality').title")
        before = measured(gsk, lambda rate: rate > 1.6e6, "at first")
        page.js("window.stays = true")
        asked, began = page.sent["keyframe"], time.monotonic()
        page.key("Tab")
        assert page.js("document.activeElement.id") == "bitrate"
        page.key("ArrowDown")
        page.key("ArrowDown")
        assert page.js(shown) == 750000
        low = measured(gsk, lambda rate: rate < 0.95e6, "0.75 Mbit/s")
        page.until(f"gsk.stats().bitrate_bps < 1e6 && {made} < 1e6 && {made} > 0.3e6", 5, "the page's own figures follow")
        test.shot(page, "low")
        # A second page knows what was asked for, and asks for something else.
        passed = (time.monotonic() - began) * 1000
        age = gsk.get("/status")["last_keyframe_age_ms"]
        assert age >= passed and page.sent["keyframe"] == asked, f"a key frame {age} ms ago; the choice was made {passed} ms ago"
        other = _open(browser, gsk)
        panel(other)
        assert other.js(shown) == 750000
        other.key("Tab")
        other.key("Home")
        page.until(f"{shown} === 3e6", 5, "the first page shows the other's choice")
        after = measured(gsk, lambda rate: rate > 1.6e6, "3 Mbit/s again")
        page.until(f"{made} > 1.6e6", 5)
        test.say(f"{before / 1e6:.2f} Mbit/s at 3, {low / 1e6:.2f} at 0.75 with no key frame, {after / 1e6:.2f} at 3 again")
        assert page.js("stays") and page.stats()["reconnects"] == 0 and page.stats()["errors"] == []
        # Where the panel is put away, the keys are the picture's again.
        other.key("i")
        assert other.js("document.activeElement.id") == "stage"
        page.check()
        other.check()
        other.close()
        # JPEG pictures have no bit rate to choose.
        plain = _open(browser, gsk, "?via=mjpeg")
        plain.key("i")
        plain.until(_row("encoder", "^jpeg") + " && " + _row("viewers", "^[1-9]"))
        assert not plain.js("document.getElementById('quality').checkVisibility()")
        plain.check()


def view_only(test, browser):
    with Gsk("--input", "none", log=test.log) as gsk:
        page = _open(browser, gsk)
        hint = page.until("document.getElementById('bar').checkVisibility() && document.getElementById('keys-hint').innerText")
        assert hint == "view only", hint
        page.drag([(500 + 20 * i, 400) for i in range(16)])
        page.key(" ", "Space")
        page.js("probe.forget()")
        page.until("probe.fresh()")
        assert page.told == [], "a page that may not steer sends no input"
        test.shot(page, "bar")
        page.key("i")
        page.until(_row("viewers", "^[1-9]"))
        assert not page.js("document.getElementById('quality').checkVisibility()"), "nor has it a choice for all"
        page.key("i")
        page.key("?")
        page.until("document.getElementById('input-help').checkVisibility() && document.getElementById('input-help').innerText.startsWith('View only')")
        test.shot(page, "help")
        page.key("Escape")
        page.until("!document.getElementById('help').checkVisibility()")
        page.check()
