"""Chromium without a screen, driven by WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import attrs
import pytest

from tests.callbacks.conftest import free_port

FLAGS = [
    "--headless",
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name that the standard gives to an element's reference."""


@attrs.frozen
class Browser:
    """One window."""

    session: aiohttp.ClientSession
    address: str

    async def ask(self, path: str, method: str = "GET", **body: object) -> object:
        """Send a command; return what is answered."""
        data = None if method == "GET" else body
        async with self.session.request(method, f"{self.address}{path}", json=data) as response:
            answer = (await response.json())["value"]
        assert response.status == 200, answer
        return answer

    async def open(self, url: str) -> None:
        await self.ask("/url", "POST", url=url)

    async def run(self, script: str, *arguments: object) -> object:
        """Run JavaScript in the page; return what it returns."""
        return await self.ask("/execute/sync", "POST", script=script, args=list(arguments))

    async def choose(self, selector: str, path: Path) -> None:
        """Choose a file, as the dialogue of a browser does."""
        element = await self.ask("/element", "POST", using="css selector", value=selector)
        assert isinstance(element, dict)
        await self.ask(f"/element/{element[ELEMENT]}/value", "POST", text=str(path))

    async def click(self, selector: str) -> None:
        element = await self.ask("/element", "POST", using="css selector", value=selector)
        assert isinstance(element, dict)
        await self.ask(f"/element/{element[ELEMENT]}/click", "POST")

    async def text(self, selector: str = "body") -> str:
        return str(await self.run(f"return document.querySelector({selector!r})?.innerText ?? ''"))

    async def title(self) -> str:
        return str(await self.ask("/title"))

    async def until(self, script: str) -> None:
        """Wait until an expression holds in the page, whichever page that is by then."""
        async with asyncio.timeout(120):
            while not await self.run(f"return Boolean({script})"):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)

    async def slow_down(self, bytes_a_second: int) -> None:
        """Let uploads go no faster, or as fast as they can for -1."""
        conditions = {
            "offline": False,
            "latency": 0,
            "download_throughput": -1,
            "upload_throughput": bytes_a_second,
        }
        path = "/chromium/network_conditions"
        await self.ask(path, "POST", network_conditions=conditions)

    async def picture(self, path: Path) -> None:
        """Write what the window shows into a PNG file."""
        picture = base64.b64decode(str(await self.ask("/screenshot")))
        await asyncio.to_thread(path.write_bytes, picture)


@contextlib.asynccontextmanager
async def chromium(width: int, height: int) -> AsyncIterator[Browser]:
    """Open a window, as wide as a device's; skip the test where no Chromium is installed."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("chromium and chromium-driver are not installed")
    port = free_port()
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(driver, f"--port={port}", stdout=quiet)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = {
            "binary": program,
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "mobileEmulation": {
                "deviceMetrics": {"width": width, "height": height, "pixelRatio": 1}
            },
        }
        try:
            async with aiohttp.ClientSession() as session:
                server = Browser(session, f"http://127.0.0.1:{port}")
                await _answering(server)
                capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
                opened = await server.ask("/session", "POST", capabilities=capabilities)
                assert isinstance(opened, dict)
                browser = Browser(session, f"{server.address}/session/{opened['sessionId']}")
                try:
                    yield browser
                finally:
                    await browser.ask("", "DELETE")
        finally:
            process.terminate()
            await process.wait()


async def _answering(server: Browser) -> None:
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await server.ask("/status")
                return
            await asyncio.sleep(0.05)
