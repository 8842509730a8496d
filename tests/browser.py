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


class Browser:
    """As much of WebDriver as these tests need."""

    def __init__(self, base: str, profile: Path) -> None:
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = f"{base}/session"
        opened = self._call("", {"capabilities": wanted})
        self._session += f"/{opened['sessionId']}"

    def open(self, page: Path) -> None:
        self._call("/url", {"url": page.as_uri()})

    def back(self) -> None:
        self._call("/back", {})

    def run(self, script: str) -> Any:
        return self._call("/execute/sync", {"script": script, "args": []})

    def size(self, width: int, height: int) -> None:
        """The window's, by emulation, because a real one has a least width."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def screenshot(self) -> Any:
        """Pixels as an array of height, width and channels."""
        with urllib.request.urlopen(f"{self._session}/screenshot", timeout=60) as reply:
            return image.imread(io.BytesIO(base64.b64decode(json.load(reply)["value"])))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> None:
        self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

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
