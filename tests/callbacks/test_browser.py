"""The example's page in a real browser, on a screen and on a phone: what visitors see and do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from memories_async.emulator import CallbackFault, Emulator, Held, InjectedFault, Reason, Rewritten
from tests.callbacks.browser import Browser, chromium
from tests.callbacks.conftest import free_port
from tests.callbacks.servers import UVICORN, application
from tests.callbacks.test_examples import FILM, failed
from tests.emulator.conftest import KnownEngine, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SIZES = {"wide": (1280, 800), "narrow": (360, 740)}
ON_EACH = pytest.mark.parametrize("size", SIZES)


@attrs.frozen
class Visit:
    """A browser at the page, and the service behind it."""

    browser: Browser
    emulator: Emulator
    address: str
    size: str
    pictures: Path

    async def choose(self) -> None:
        """Open the page and choose a film."""
        await self.browser.open(self.address)
        await self.browser.choose("input[type=file]", FILM)

    async def picture(self, name: str) -> None:
        """Take a picture of a page, and see that it fits the screen's width."""
        await self.browser.picture(self.pictures / f"{self.size}-{name}.png")
        assert await self.browser.run("return document.documentElement.scrollWidth <= innerWidth")
        assert await self.browser.run(
            "return parseFloat(getComputedStyle(document.body).fontSize) >= 16"
        )


@contextlib.asynccontextmanager
async def visit(size: str, folder: Path) -> AsyncIterator[Visit]:
    # Where whoever wants to look at the pictures says that they shall be kept.
    pictures = Path(os.environ.get("SCREENSHOTS", folder))
    port = free_port()
    async with (
        Emulator(KnownEngine()) as emulator,
        application(UVICORN, "fastapi_app:app", port, folder, emulator),
        chromium(*SIZES[size]) as browser,
    ):
        yield Visit(browser, emulator, f"http://127.0.0.1:{port}", size, pictures)


@ON_EACH
async def test_a_visitor_sees_what_happens_until_the_caption_comes(
    size: str, tmp_path: Path
) -> None:
    async with visit(size, tmp_path) as here:
        browser, emulator = here.browser, here.emulator
        emulator.callbacks.add(CallbackFault(None, Held()))
        await here.choose()
        assert await browser.title() == "Describe a video"
        await here.picture("before")

        await browser.slow_down(200_000)
        await browser.run("form.requestSubmit()")
        await browser.until("bar.value > 0.2 && bar.value < 1")
        assert "% sent" in await browser.text("#status")
        assert await browser.run("return button.disabled && form.prompt.disabled")
        await here.picture("uploading")
        await browser.slow_down(-1)

        await browser.until("document.title == 'One moment …'")
        assert "is looking at your video" in await browser.text()
        await here.picture("waiting")

        await until(lambda: emulator.callbacks.held)
        await emulator.callbacks.release()
        await browser.until("document.title == 'What happens in your video'")
        assert "What happens in this video? [" in await browser.text(".caption")
        await here.picture("done")
        assert emulator.ledger.billed() == 1


@ON_EACH
async def test_a_visitor_is_told_what_went_wrong_and_may_try_again(
    size: str, tmp_path: Path
) -> None:
    async with visit(size, tmp_path) as here:
        browser, emulator = here.browser, here.emulator
        emulator.faults.add(InjectedFault(None, Reason.NO_CREDITS))
        emulator.callbacks.add(CallbackFault(None, Rewritten(failed)))
        await here.choose()
        await browser.click("button")
        await browser.until("error.textContent")
        assert "cannot take a video at the moment" in await browser.text("#error")
        assert not await browser.run("return button.disabled || !bar.hidden")
        await here.picture("refused")

        await browser.click("button")
        await browser.until("document.title == 'No description'")
        assert "could not describe this video" in await browser.text()
        await here.picture("failed")

        await browser.open(f"{here.address}/captions/nothing")
        assert "No such video has been handed in here" in await browser.text()
        assert not await browser.run("return document.querySelector('meta[http-equiv=refresh]')")
        await here.picture("unknown")


async def test_a_double_click_sends_once(tmp_path: Path) -> None:
    async with visit("wide", tmp_path) as here:
        await here.choose()
        await here.browser.run("button.click(); button.click(); button.click()")
        await here.browser.until("document.title == 'What happens in your video'")
        assert len(here.emulator.ledger) == 1


async def test_the_page_may_be_used_again_after_going_back(tmp_path: Path) -> None:
    """The same video and question show what is there already; another question is asked."""
    async with visit("wide", tmp_path) as here:
        await here.choose()
        for question, billed in (("", 1), ("", 1), ("And who?", 2)):
            await here.browser.run(
                "const [text] = arguments; if (!text) return; form.prompt.value = text;"
                "form.prompt.dispatchEvent(new Event('change', {bubbles: true}))",
                question,
            )
            await here.browser.click("button")
            await here.browser.until("document.title == 'What happens in your video'")
            assert here.emulator.ledger.billed() == billed
            assert question in await here.browser.text(".caption")
            await here.browser.ask("/back", "POST")
            await here.browser.until("document.title == 'Describe a video'")
            assert not await here.browser.run("return button.disabled")


async def test_a_server_that_has_gone_is_said(tmp_path: Path) -> None:
    async with visit("wide", tmp_path) as here:
        await here.choose()
        await here.browser.run("XMLHttpRequest.prototype.send = function () { this.onerror() }")
        await here.browser.click("button")
        await here.browser.until("error.textContent")
        assert "The connection was lost" in await here.browser.text("#error")
