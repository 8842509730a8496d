"""A real browser for tests of pages: headless Chromium, driven over WebDriver."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)",
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """As much of WebDriver as these tests need."""

    def __init__(self, base: str, profile: Path) -> None:
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        logged = {"browser": "ALL"}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logged}}
        self._session = f"{base}/session"
        opened = self._call("", {"capabilities": wanted})
        self._session += f"/{opened['sessionId']}"

    def open(self, page: Path | str) -> None:
        self._call("/url", {"url": page if isinstance(page, str) else page.as_uri()})

    def back(self) -> None:
        self._call("/back", {})

    def run(self, script: str) -> Any:
        return self._call("/execute/sync", {"script": script, "args": []})

    def wait(self, condition: str, *, seconds: float = 60) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.05)
        return value

    def move(self, x: float, y: float) -> None:
        """Move the mouse, in pixels of the window."""
        self._mouse("mouseMoved", x, y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse's button at one place and release it at another, which may be the same."""
        self._mouse("mouseMoved", *start)
        self._mouse("mousePressed", *start, button="left", clickCount=1)
        for share in (0.3, 0.7, 1.0) if start != end else ():
            at = [one + share * (other - one) for one, other in zip(start, end, strict=True)]
            self._mouse("mouseMoved", *at, button="left", buttons=1)
        self._mouse("mouseReleased", *end, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key by its name, say ArrowLeft."""
        text = {"text": "\r"} if key == "Enter" else {}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        self._devtools("Input.dispatchKeyEvent", {"type": "keyDown", **about, **text})
        self._devtools("Input.dispatchKeyEvent", {"type": "keyUp", **about})

    def console(self) -> list[str]:
        """What was written to the console since the last call: errors, warnings, violations of a policy."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def size(self, width: int, height: int) -> None:
        """The window's, by emulation, because a real one has a least width."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def processor_time(self) -> float:
        """Seconds of processor time that the main thread of this tab's pages took since the first call."""
        self._devtools("Performance.enable", {"timeDomain": "threadTicks"})
        metrics = self._devtools("Performance.getMetrics", {})["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

    def screenshot(self) -> Any:
        """Pixels as an array of height, width and channels."""
        with urllib.request.urlopen(f"{self._session}/screenshot", timeout=60) as reply:
            return image.imread(io.BytesIO(base64.b64decode(json.load(reply)["value"])))

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self._devtools("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self._session + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own; it is gone after the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_for(base)
        yield Browser(base, profile)
    finally:
        try:
            urllib.request.urlopen(f"{base}/shutdown", timeout=10).close()
        finally:
            driver.terminate()
            driver.wait(timeout=20)


def _wait_for(base: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{base}/status", timeout=5) as reply:
                if json.load(reply)["value"]["ready"]:
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail("chromedriver did not start")
