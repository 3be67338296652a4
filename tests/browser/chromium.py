"""Chromium, driven over its debugging pipe, and one page of it."""
import base64
import collections
import fcntl
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--mute-audio",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SOFTWARE = ["--disable-gpu"]
# A GPU's shaders, run on the CPU. Without them Chromium converts video by libyuv, whose x86 code keeps coefficients in
# signed bytes and so takes 2.0 for BT.709's 2.112: saturated blues are 14 of 255 off, whoever sends them.
SHADERS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


def find():
    """The browser's path, or None."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class Gone(Exception):
    """The browser ended."""


class Chromium:
    """It stays in this process's group and ends with the pipe, so that nothing outlives a test that is killed."""

    def __init__(self, scratch, flags):
        self.profile = tempfile.mkdtemp(prefix="profile-", dir=scratch)
        theirs_in, self.out = os.pipe()
        self.inp, theirs_out = os.pipe()
        # The browser's ends become its descriptors 3 and 4, so they must not lie there now.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs_in, theirs_out)]
        null = os.open(os.devnull, os.O_RDWR)
        argv = [find(), *FLAGS, *flags, f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"]
        places = [(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in ((null, 0), (null, 1), (null, 2), (high[0], 3), (high[1], 4))]
        self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=places)
        for fd in (theirs_in, theirs_out, null, *high):
            os.close(fd)
        self.changed, self.writing = threading.Condition(), threading.Lock()
        self.number, self.answers, self.over, self.pages = 0, {}, False, {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b""
        while True:
            part = os.read(self.inp, 1 << 20)
            with self.changed:
                if not part:
                    self.over = True
                *whole, rest = (rest + part).split(b"\0")
                for message in map(json.loads, whole):
                    if "id" in message:
                        self.answers[message["id"]] = message
                    else:
                        self._event(message)
                self.changed.notify_all()
            if not part:
                return

    def _event(self, message):
        page = self.pages.get(message.get("sessionId"))
        if page:
            page._event(message["method"], message["params"])

    def post(self, method, session=None, **params):
        with self.writing:
            self.number += 1
            message = {"id": self.number, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            data = memoryview(json.dumps(message).encode() + b"\0")
            while data:
                data = data[os.write(self.out, data):]
            return message["id"]

    def call(self, method, session=None, within=30, **params):
        number = self.post(method, session, **params)
        with self.changed:
            self.changed.wait_for(lambda: number in self.answers or self.over, within)
            answer = self.answers.pop(number, None)
        if answer is None:
            raise Gone(method) if self.over else TimeoutError(method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close", within=5)
        except (Gone, TimeoutError, RuntimeError, OSError):
            pass
        end = time.monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.02)
        os.close(self.out)
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """A tab. It notes console errors, policy violations, requests and what its WebSockets send."""

    def __init__(self, browser, size=(1280, 720), mobile=False, before=""):
        self.browser, self.errors, self.requests, self.told, self.allowed = browser, [], [], [], []
        self.sent = collections.Counter()
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.cdp(f"{domain}.enable")
        # The decoding worker speaks on a session of its own.
        self.cdp("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        self.resize(size, mobile)
        if mobile:
            self.cdp("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        with open(os.path.join(HERE, "probe.js"), encoding="utf-8") as file:
            self.cdp("Page.addScriptToEvaluateOnNewDocument", source=before + "\n" + file.read())

    def _event(self, method, params):
        if method == "Target.attachedToTarget":
            session = params["sessionId"]
            self.browser.pages[session] = self
            self.browser.post("Runtime.enable", session)
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif method == "Network.webSocketFrameSent":
            said = json.loads(params["response"]["payloadData"])
            self.sent[said["type"]] += 1
            if said["type"] == "input":
                self.told.append(said)

    def cdp(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def post(self, method, **params):
        """Without waiting for its end."""
        self.browser.post(method, self.session, **params)

    def resize(self, size, mobile=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=mobile)

    def open(self, url):
        self.origin = re.match(r"https?://[^/]+", url).group()
        self.cdp("Page.navigate", url=url)
        self.until("window.gsk && location.href !== 'about:blank'")

    def js(self, expression):
        answer = self.cdp("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def until(self, expression, within=10, what=None):
        """Waits until the expression is true in the page, and gives its value."""
        end = time.monotonic() + within
        while True:
            value = self.js(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {within} s: {what or expression}; the page says {self.words()!r}, "
                                     f"stats {self.stats()}")
            time.sleep(0.03)

    def stats(self):
        return self.js("window.gsk && gsk.stats()")

    def words(self):
        """What the page says over the picture; empty while it plays."""
        return self.js("probe.words()")

    def says(self, pattern, within=10):
        end = time.monotonic() + within
        while True:
            words = self.words()
            if re.search(pattern, words):
                return words
            if time.monotonic() > end:
                raise AssertionError(f"not within {within} s: the words {pattern!r}; the page says {words!r}, stats {self.stats()}")
            time.sleep(0.03)

    def playing(self, within=10):
        """Waits for a new picture on the screen that is not covered by words."""
        self.js("probe.forget()")
        self.until("probe.fresh() && !probe.words()", within, "a new picture, no words over it")

    def key(self, key, code=None):
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        numbers = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "Home": 36, "ArrowDown": 40}
        more = {"windowsVirtualKeyCode": numbers[key]} if key in numbers else {}
        self.cdp("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, **text, **more)
        self.cdp("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key, **more)

    def mouse(self, kind, x, y, **more):
        self.cdp("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, path, shift=False):
        held = dict(button="left", buttons=1, clickCount=1, modifiers=8 if shift else 0)
        self.mouse("mousePressed", *path[0], **held)
        for point in path[1:]:
            self.mouse("mouseMoved", *point, **held)
        self.mouse("mouseReleased", *path[-1], **{**held, "buttons": 0})

    def touch(self, kind, *points):
        self.cdp("Input.dispatchTouchEvent", type=kind, touchPoints=[dict(x=x, y=y, id=i) for i, (x, y) in enumerate(points)])

    def screenshot(self, path=None):
        data = base64.b64decode(self.cdp("Page.captureScreenshot", format="png")["data"])
        if path:
            with open(path, "wb") as file:
                file.write(data)
        return data

    def check(self):
        """What holds in every scenario: a clean console, the policy kept, nothing from elsewhere."""
        wrong = [e for e in self.errors if not any(re.search(a, e) for a in self.allowed)]
        assert not wrong, f"the console has errors: {wrong}"
        violations = self.js("probe.violations")
        assert not violations, f"the page's policy was violated: {violations}"
        own = (self.origin, self.origin.replace("http", "ws", 1), "blob:" + self.origin, "data:", "about:blank")
        foreign = [r for r in self.requests if not r.startswith(own)]
        assert not foreign, f"requests to elsewhere: {foreign}"

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
