"""How the page behaves where the screen is small, the hands are on the keyboard, or nobody looks."""
from chromium import Page
from server import Gsk


def phone(test, browser):
    """At 375 px nothing is cut off, everything can be reached by keyboard, and nothing moves for who wants no motion."""
    with Gsk("--instance-id", "a-worker-with-a-name-that-is-rather-long-for-a-telephone", log=test.log) as gsk:
        page = Page(browser, (375, 667), mobile=True)
        page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        page.open(gsk.url)
        page.playing()
        page.until("document.getElementById('bar').checkVisibility()")
        reached = []
        for _ in range(6):
            page.key("Tab")
            reached.append(page.js("document.activeElement.id"))
        test.say(f"Tab reaches {reached}")
        assert {"stage", "info-button", "help-button", "full-button"} <= set(reached), reached

        def fits(what):
            assert page.js("document.documentElement.scrollWidth") <= 375, what
            assert page.js("probe.clipped()") == [], (what, page.js("probe.clipped()"))
            test.shot(page, what)

        fits("bar")
        moving = page.js("[...document.querySelectorAll('#bar, #overlay, #message, #panel')].filter(e => { const s = getComputedStyle(e);"
                         " return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0; }).map(e => e.id)")
        assert moving == [], moving
        page.js("document.getElementById('info-button').focus()")
        page.key("Enter")
        page.until("document.getElementById('panel').checkVisibility() && document.getElementById('latency').innerText.includes('total')")
        page.until("gsk.stats().latency.total")
        page.until("document.getElementById('quality').checkVisibility()")
        fits("panel")
        page.js("document.getElementById('stage').focus()")
        page.key("Tab")
        assert page.js("document.activeElement.id") == "bitrate", page.js("document.activeElement.id")
        page.js("document.getElementById('info-button').focus()")
        page.key("Enter")
        page.js("document.getElementById('help-button').focus()")
        page.key("Enter")
        page.until("document.getElementById('help').checkVisibility()")
        fits("help")
        page.key("Escape")
        page.until("!document.getElementById('help').checkVisibility()")
        assert [said for said in page.told if said["event"] == "key"] == [], "the page's own keys are not the program's"
        gsk.kill()
        page.allowed.append("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING")
        page.says("reconnecting in")
        fits("gone")
        page.check()


def hidden(test, browser):
    """A tab that nobody sees lets its place go, and takes the picture up again when it is shown."""
    # The 30 s that it waits pass in half a second here.
    before = """
        const later = setTimeout;
        window.setTimeout = (f, ms, ...rest) => later(f, ms === 30000 ? 500 : ms, ...rest);
        let hidden = false;
        Object.defineProperty(document, 'hidden', { get: () => hidden });
        window.hide = value => { hidden = value; document.dispatchEvent(new Event('visibilitychange')); };"""
    for via in ("webcodecs", "mse", "mjpeg"):
        with Gsk(log=test.log) as gsk:
            page = Page(browser, before=before)
            page.open(f"{gsk.url}?via={via}")
            page.playing()
            page.js("hide(true)")
            words = page.says("paused", 5)
            while gsk.get("/status")["active_clients"]:
                page.says("paused")
            test.shot(page, f"{via}-words")
            page.js("hide(false)")
            page.playing(3)
            page.until("probe.age() < 700", 5)
            test.say(f"{via}: {words!r}, no viewer; and plays again when shown")
            # A glance elsewhere interrupts nothing.
            reconnects = page.stats()["reconnects"]
            page.js("hide(true); hide(false)")
            page.js("new Promise(resolve => later(resolve, 800))")
            assert not page.words() and page.stats()["reconnects"] == reconnects
            page.check()
            page.close()
