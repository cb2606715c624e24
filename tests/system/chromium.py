"""A real headless Chromium, driven over the websocket of its developer tools."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

BINARIES = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
HOW = (
    "no Chromium: set CHROMIUM_BIN, or install one, such as with "
    "'apt-get install chromium-headless-shell'; 'make test' does so where it is root"
)
WITHIN_S = 60.0
POLL_S = 0.05
CODES = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40}
OPTIONS = (
    "--headless",
    "--no-sandbox",  # of ours nothing is loaded, and root has no sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--remote-debugging-port=0",
    "about:blank",
)


def find() -> str | None:
    """The program, as configured or on the path."""
    given = os.environ.get("CHROMIUM_BIN")
    return given or next((path for name in BINARIES if (path := shutil.which(name))), None)


@contextmanager
def browser(binary: str) -> Iterator[str]:
    """The address of its developer tools, while the block lasts."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [binary, f"--user-data-dir={profile}", *OPTIONS]
        with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                yield _address(process)
            finally:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        text = line.decode(errors="replace").strip()
        if text.startswith("DevTools listening on "):
            return text.rpartition(" ")[2]
        said.append(text)
    raise RuntimeError(f"Chromium did not start: {said[-3:]}")


class NotNow(Exception):
    """The page is just becoming another one."""


@dataclass
class Tab:
    """One page. Every wait has a limit that no machine needs."""

    socket: aiohttp.ClientWebSocketResponse
    session: str
    number: int = 0
    complaints: list[str] = field(default_factory=list)
    """Exceptions and errors that the page has logged."""

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        sent = {"id": self.number, "method": method, "params": params}
        await self.socket.send_json({**sent, "sessionId": self.session})
        async with asyncio.timeout(WITHIN_S):
            while True:
                heard = json.loads(await self.socket.receive_str())
                if heard.get("id") == self.number:
                    if "error" in heard:
                        raise NotNow(heard["error"])
                    return dict(heard["result"])
                self._note(heard)

    async def open(self, url: str) -> None:
        """Returns when the page is there, with its scripts."""
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href === '{url}' && document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """The first value of the expression that is true."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(NotNow):
                    if found := await self.run(script):
                        return found
                await asyncio.sleep(POLL_S)

    async def press(self, key: str) -> None:
        code = CODES.get(key, 0)
        pressed = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def click(self, x: float, y: float) -> None:
        where = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **where)
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **where)

    async def size(self, width: int, height: int, scheme: str = "light") -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=media)

    async def picture(self) -> bytes:
        """As a PNG."""
        taken = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(taken["data"])

    def _note(self, heard: dict[str, Any]) -> None:
        params = heard.get("params", {})
        if heard.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif heard.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


@asynccontextmanager
async def tab(address: str, url: str = "", scheme: str = "light") -> AsyncIterator[Tab]:
    """A new page, at ``url`` if one is given, of a small laptop's size."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(address, max_msg_size=0) as socket,
    ):
        page = await _attach(socket)
        await page.call("Page.enable")
        await page.call("Runtime.enable")
        await page.call("Log.enable")
        await page.size(1280, 720, scheme)
        if url:
            await page.open(url)
        try:
            yield page
        finally:
            with contextlib.suppress(Exception):
                await page.call("Page.close")


async def _attach(socket: aiohttp.ClientWebSocketResponse) -> Tab:
    """A context of its own, so that nothing of one test is found by the next."""

    async def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
        await socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(WITHIN_S):
            while True:
                heard = json.loads(await socket.receive_str())
                if heard.get("id") == number:
                    return dict(heard["result"])

    context = (await ask(-1, "Target.createBrowserContext"))["browserContextId"]
    target = await ask(-2, "Target.createTarget", url="about:blank", browserContextId=context)
    attached = await ask(-3, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
    return Tab(socket, attached["sessionId"])
