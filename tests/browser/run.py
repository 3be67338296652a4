#!/usr/bin/env python3
"""Runs one scenario: the real server, the real page, a real browser.

    GSK=target/debug/gsk tests/browser/run.py SCENARIO

GSK_SCRATCH is where logs and screenshots go (default target/browser); GSK_SECONDS how long a rate is measured
(default 10). Without a name, it lists the scenarios.
"""
import inspect
import os
import sys
import time

import chromium
import faults
import manners
import play
import steer


class Test:
    """What a scenario is given: the browser, and a place for what it leaves."""

    def __init__(self, name, scratch):
        self.name, self.scratch = name, scratch
        self.seconds = float(os.environ.get("GSK_SECONDS", "10"))
        self.log = os.path.join(scratch, f"{name}.log")
        open(self.log, "wb").close()

    def path(self, suffix):
        return os.path.join(self.scratch, f"{self.name}{suffix}")

    def shot(self, page, what):
        # What fades in is there when its transition is over.
        page.until("document.getAnimations().length === 0")
        return page.screenshot(self.path(f"-{what}.png"))

    def say(self, text):
        print(f"{self.name}: {text}", flush=True)


def scenarios():
    return {name: f for module in (play, steer, faults, manners) for name, f in inspect.getmembers(module, inspect.isfunction)
            if f.__module__ == module.__name__ and list(inspect.signature(f).parameters) == ["test", "browser"]}


def main():
    known = scenarios()
    name = sys.argv[1] if len(sys.argv) == 2 else None
    if name not in known:
        print("scenarios:", *sorted(known), file=sys.stderr)
        return 2
    if not chromium.find():
        print(f"{name}: skipped: there is no Chromium (apt-get install chromium)")
        return 1 if os.environ.get("CI") == "true" else 0
    default = os.path.join(os.path.dirname(__file__), "..", "..", "target", "browser")
    scratch = os.path.abspath(os.environ.get("GSK_SCRATCH", default))
    os.makedirs(scratch, exist_ok=True)
    test, began = Test(name, scratch), time.monotonic()
    try:
        with chromium.Chromium(scratch, getattr(known[name], "flags", chromium.SOFTWARE)) as browser:
            known[name](test, browser)
    except BaseException:
        with open(test.log, encoding="utf-8", errors="replace") as log:
            print(f"{name}: the server's log:\n{log.read()[-4000:]}", file=sys.stderr)
        raise
    test.say(f"good, in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
