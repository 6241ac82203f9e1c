"""A headless Chromium, driven by the DevTools protocol over a pipe: no port, no driver, no library.

"--remote-debugging-pipe": the browser reads commands from file descriptor 3 and writes answers to 4, each one
JSON object that ends with NUL (Chromium, content/browser/devtools/devtools_pipe_handler.cc).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium")
DEADLINE_S = 20.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class ProtocolError(Exception):
    """The browser refused a command, or the page's script threw."""


def program() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One process with a profile of its own in `home`."""

    def __init__(self, path: str, home: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Above 4, so that neither is overwritten by the other's place.
        inputs, outputs = (_high(one) for one in (to_read, to_write))
        places = [(os.POSIX_SPAWN_DUP2, inputs, 3), (os.POSIX_SPAWN_DUP2, outputs, 4)]
        quiet = [(os.POSIX_SPAWN_OPEN, 2, str(home / "browser.err"), os.O_WRONLY | os.O_CREAT, 0o600)]
        argv = [path, *_FLAGS, f"--user-data-dir={home / 'profile'}", "about:blank"]
        env = {**os.environ, "HOME": str(home)}
        self.pid = os.posix_spawn(path, argv, env, file_actions=[*quiet, *places], setsid=True)
        os.close(inputs)
        os.close(outputs)
        self._number, self._pending = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def _next(self, waiting_for: str) -> dict[str, Any]:
        limit = time.monotonic() + DEADLINE_S
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"the browser did not answer {waiting_for}"
            piece = os.read(self._read, 1 << 20)
            assert piece, f"the browser ended at {waiting_for}"
            self._pending += piece
        raw, _, self._pending = self._pending.partition(b"\0")
        found: dict[str, Any] = json.loads(raw)
        return found

    def close(self) -> None:
        """In order, so that it ends its own processes; whatever is left of it is killed."""
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
            select.select([self._read], [], [], DEADLINE_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._write)
        os.close(self._read)

    @contextmanager
    def tab(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Tab]:
        """With cookies of its own."""
        with self.tabs() as open_tab:
            yield open_tab(url, width=width, height=height, dark=dark)

    @contextmanager
    def tabs(self) -> Iterator[Callable[..., Tab]]:
        """Opens tabs that share cookies and connections, as a person's do."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            yield partial(self._open, context)
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def _open(
        self, context: str, url: str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Tab:
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        tab.resize(width, height)
        tab.prefer("dark" if dark else "light")
        tab.call("Page.enable")
        tab.call("Runtime.enable")
        tab.call("Log.enable")
        tab.go(url)
        return tab


class Tab:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, self._session, **params)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            said = answer["exceptionDetails"]
            raise ProtocolError(said.get("exception", {}).get("description", said["text"]))
        return answer["result"].get("value")

    def until(self, condition: str, deadline_s: float = DEADLINE_S) -> float:
        """Seconds until the condition held, looked at with each frame that the page paints."""
        began = time.monotonic()
        look = f"""new Promise((resolve) => {{
            const end = performance.now() + {deadline_s * 1000};
            const look = () => {{
                if ({condition}) resolve(true);
                else if (performance.now() > end) resolve(false);
                else setTimeout(look, 15);
            }};
            look();
        }})"""
        while time.monotonic() - began < deadline_s:
            try:
                if self.js(look):
                    return time.monotonic() - began
            except ProtocolError as error:
                # A navigation takes the promise with it.
                if "navigated" not in str(error) and "context" not in str(error):
                    raise
        raise AssertionError(f"not in {deadline_s} s: {condition}\n{self.js('document.body.innerText')}")

    def press(self, key: str, *, shift: bool = False) -> None:
        """A key as from a keyboard; `text` of Enter and Space is what makes buttons act."""
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, words: str) -> None:
        self.call("Input.insertText", text=words)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def problems(self) -> list[str]:
        """What the page's script threw and what the browser refused it, such as by its content policy."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") == self._session:
                if event["method"] == "Runtime.exceptionThrown":
                    found.append(str(event["params"]["exceptionDetails"]))
                if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                    found.append(event["params"]["entry"]["text"])
        return found

    def statuses(self) -> list[int]:
        """Of every answer that came since Network.enable, those that the page may not see included."""
        kind = "Network.responseReceivedExtraInfo"
        mine = [
            e for e in self._browser.events if e.get("sessionId") == self._session and e["method"] == kind
        ]
        return [int(event["params"]["statusCode"]) for event in mine]

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


def _high(descriptor: int) -> int:
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high
