"""`gsk serve` as the tests start it, and what they feed it."""
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


class Gsk:
    """One server on loopback. The port stays the same when it is started again."""

    def __init__(self, *args, log, stdin=None, port=0, env=()):
        self.args, self.log, self.port, self.env = args, log, port, dict(env)
        self.start(stdin)

    def start(self, stdin=None):
        words = list(self.args)
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["--listen", f"127.0.0.1:{self.port}"]
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([os.environ["GSK"], "serve", *words], stdin=stdin or subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.env})
        ready, _, _ = select.select([self.process.stdout], [], [], 10)
        line = self.process.stdout.readline().decode().strip() if ready else ""
        found = re.match(r"http://127\.0\.0\.1:(\d+)/", line)
        if not found:
            self.kill()
            with open(self.log, encoding="utf-8", errors="replace") as log:
                raise AssertionError(f"gsk serve did not start: it said {line!r}; its log:\n{log.read()}")
        self.url, self.port = line, int(found.group(1))

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return json.load(answer)

    def kill(self):
        """At once, as by a crash."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("gsk serve did not end within 5 s of SIGTERM") from None


def feeder(*words):
    """The words that make gsk run a feeder as its program."""
    return ["--", sys.executable, os.path.join(HERE, "feed.py"), *map(str, words)]
