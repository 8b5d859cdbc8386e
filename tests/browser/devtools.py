# SPDX-License-Identifier: Apache-2.0
"""Drives a headless Chromium over its DevTools pipe: JSON messages that end in NUL, on file descriptors 3 (to it) and 4
(from it). Standard library only, no port, no network. One page at a time."""

import json
import os
import shutil
import subprocess
import tempfile
import time

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe", "--window-size=1400,1000",
]


def find_browser():
    """Path of a Chromium-like browser, or None. SPILLWAY_BROWSER overrides."""
    names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
    override = os.environ.get("SPILLWAY_BROWSER")
    return next((path for path in map(shutil.which, [override] if override else names) if path), None)


class Browser:
    """with Browser(path) as browser: browser.open(url); browser.evaluate("1 + 1")"""

    def __init__(self, path, timeout_s=60):
        self.timeout_s = timeout_s
        self.folder = tempfile.mkdtemp(prefix="spillway-browser-")
        self.next_id = 0
        self.buffer = b""
        self.answers = {}
        self.errors = []    # exceptions, console errors, failed loads: text
        self.requests = []  # every URL that the page asked for
        self.loaded = False
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()

        def place_pipes():
            # Copies above 4 first, so that neither end is overwritten before it was placed.
            read_copy, write_copy = os.dup(to_read), os.dup(to_write)
            os.dup2(read_copy, 3)
            os.dup2(write_copy, 4)

        self.log = open(os.path.join(self.folder, "browser.log"), "wb")
        try:
            self.process = subprocess.Popen(
                [path, *FLAGS, f"--user-data-dir={self.folder}/profile", "about:blank"], preexec_fn=place_pipes,
                pass_fds=(3, 4) if {3, 4}.isdisjoint({to_read, to_write}) else (3, 4, to_read, to_write),
                stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        finally:
            os.close(to_read)
            os.close(to_write)
        os.set_blocking(self.from_browser, False)
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.to_browser)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.from_browser)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pump(self):
        """Takes what the browser sent so far; notes errors and requests."""
        try:
            data = os.read(self.from_browser, 1 << 20)
        except BlockingIOError:
            time.sleep(0.005)
            return
        if not data:
            self.log.flush()
            with open(self.log.name, errors="replace") as log:
                raise RuntimeError("the browser ended: " + log.read()[-2000:])
        *messages, self.buffer = (self.buffer + data).split(b"\0")
        for raw in messages:
            message = json.loads(raw)
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self.note(message["method"], message.get("params", {}))

    def note(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def call(self, method, **params):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self.timeout_s
        while message["id"] not in self.answers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method}: no answer in {self.timeout_s} s")
            self.pump()
        answer = self.answers.pop(message["id"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def resize(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)

    def color_scheme(self, scheme):
        # Without smooth scrolling a box stays where it was found.
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}])

    def open(self, url):
        """Loads `url` and waits until it has loaded; errors and requests start anew."""
        self.errors, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + self.timeout_s
        while not self.loaded:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url}: not loaded in {self.timeout_s} s")
            self.pump()

    def evaluate(self, expression):
        """Value of a JavaScript expression (a promise is awaited)."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(f"{expression}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def settle(self):
        """Two frames: what was asked to be drawn is drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        for kind in ["mousePressed", "mouseReleased"]:
            self.mouse(kind, x, y, button="left", buttons=1, clickCount=1)

    def press(self, key, code=None, text=None):
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **({"text": text} if text and kind == "keyDown" else {}))
