"""The person's input reaches the scene, and its effect the screen."""
from chromium import Page
from server import Gsk


def _apart(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


def _settled(page):
    """The picture once two readings, some frames apart, agree."""
    page.js("window.was = null")
    page.until("(async () => { const a = probe.thumb().join(); await new Promise(r => setTimeout(r, 300)); return probe.thumb().join() === a; })()")
    return page.js("probe.thumb()")


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
        page.key("?")
        page.until("document.getElementById('input-help').checkVisibility() && document.getElementById('input-help').innerText.startsWith('View only')")
        test.shot(page, "help")
        page.key("Escape")
        page.until("!document.getElementById('help').checkVisibility()")
        page.check()
