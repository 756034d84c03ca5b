"""The calls that the doctor makes, each operation once, in the order in which they can be made."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal

import attrs

from memories_async.cli.doctor import media
from memories_async.cli.profiles import KeyName
from memories_async.client import Memories
from memories_async.observe.prices import ARITHMETIC

NAMESPACE = "memories-async-doctor"
"""Where what the doctor adds to the library lies, until it removes it."""
SEARCHABLE_WITHIN = 120.0
UNPUBLISHED = Decimal("0.005")
"""Dollars that a call counts whose price the service does not publish."""


@attrs.define
class Findings:
    """What the steps before have found, for those after them.

    Attributes:
        seed: What the media of the next step are made of.
        image_url: A picture at a public address, if the user named one.
        video_url: A video at a public address, if the user named one.
        callback_url: Where results may be posted, if the user named it.
        video_no: A video of the library.
        asset_id: A video that was uploaded as an asset.
        picture_id: A picture that was uploaded as an asset.
    """

    seed: int
    image_url: str = ""
    video_url: str = ""
    callback_url: str = ""
    video_no: str = ""
    asset_id: str = ""
    picture_id: str = ""

    def picture(self) -> bytes:
        """Return a picture that nobody has seen."""
        return media.picture(self.seed)

    def video(self) -> bytes:
        """Return a video that nobody has seen."""
        return media.video(self.seed)

    def lacks(self, needs: Sequence[str]) -> str:
        """Return the first of what is needed that was not found, or nothing."""
        return next((name for name in needs if not getattr(self, name)), "")


GIVEN: Mapping[str, str] = {
    "image_url": "--image-url",
    "video_url": "--video-url",
    "callback_url": "--callback-url",
}
"""What no step finds: the options that name it."""

Call = Callable[[Memories, Findings], Awaitable[object]]


@attrs.frozen
class Step:
    """One call that the doctor makes.

    Attributes:
        name: The public method.
        call: Makes it.
        key: Which key it wants.
        dollars: What it costs; None where the service publishes no price.
        needs: What a step before must have found, or the user must have named.
    """

    name: str
    call: Call
    key: KeyName = "api_key"
    dollars: Decimal | None = Decimal(0)
    needs: Sequence[str] = ()

    @property
    def counted(self) -> Decimal:
        """Dollars that it counts against a limit."""
        return UNPUBLISHED if self.dollars is None else self.dollars


async def _list(client: Memories, found: Findings) -> None:
    async for video in client.library.videos(page_size=1):
        found.video_no = found.video_no or video.video_no
        return


async def _video(client: Memories, found: Findings) -> None:
    await client.library.video(found.video_no)


async def _add_video(client: Memories, found: Findings) -> None:
    named = ("doctor.mp4", found.video(), "video/mp4")
    found.video_no = (await client.library.add_video(named, unique_id=NAMESPACE)).video_no


async def _indexed(client: Memories, found: Findings) -> None:
    await client.library.wait_until_searchable(
        found.video_no, unique_id=NAMESPACE, within=SEARCHABLE_WITHIN
    )


async def _clips(client: Memories, found: Findings) -> None:
    await client.library.search_clips(
        found.video_no, found.picture(), "a red bar", unique_id=NAMESPACE
    )


async def _transcript(client: Memories, found: Findings) -> None:
    await client.library.audio_transcript(found.video_no, unique_id=NAMESPACE)


async def _captions(client: Memories, found: Findings) -> None:
    await client.library.video_captions(found.video_no, unique_id=NAMESPACE)


async def _download(client: Memories, found: Findings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "doctor.mp4")
        await client.library.download(found.video_no, copy, unique_id=NAMESPACE)


async def _transcripts(client: Memories, _: Findings) -> None:
    async for _hit in client.library.search_transcripts("hello", unique_id=NAMESPACE):
        return


async def _delete(client: Memories, found: Findings) -> None:
    await client.library.delete_videos([found.video_no], unique_id=NAMESPACE)


async def _asset(client: Memories, found: Findings) -> None:
    named = ("doctor.mp4", found.video(), "video/mp4")
    found.asset_id = (await client.assets.upload(named)).asset_id


async def _signed_asset(client: Memories, found: Findings) -> None:
    named = ("doctor.png", found.picture(), "image/png")
    found.picture_id = (await client.assets.upload(named, signed=True)).asset_id


async def _asset_download(client: Memories, found: Findings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await client.assets.download(found.asset_id, os.path.join(folder, "doctor.mp4"))


async def _video_by_address(client: Memories, found: Findings) -> None:
    video = await client.library.add_video(found.video_url, unique_id=NAMESPACE)
    found.video_no = video.video_no


FREE: Sequence[Step] = (
    Step("library.videos", _list),
    Step("library.video", _video, needs=("video_no",)),
)
"""Calls that cost nothing and change nothing."""

_SEARCH = Decimal("0.0001")  # $0.1 per 1,000
_IMAGE = Decimal("0.0001")
_VIDEO = Decimal("0.0005")  # $0.5 per 1,000 minutes
_BYTES = Decimal("0.000001")  # $0.12 per GB

BILLED: Sequence[Step] = (
    Step(
        "captions.image",
        lambda client, found: client.captions.image(found.picture(), "One word: what is it?"),
        "caption_key",
        None,
    ),
    Step(
        "captions.image (base64)",
        lambda client, found: client.captions.image(
            found.picture(), "One word: what is it?", as_base64=True
        ),
        "caption_key",
        None,
    ),
    Step(
        "captions.video",
        lambda client, found: client.captions.video(found.video(), "One word: what moves?"),
        "caption_key",
        None,
    ),
    Step(
        "captions.image (by address)",
        lambda client, found: client.captions.image(found.image_url, "One word: what is it?"),
        "caption_key",
        None,
        ("image_url",),
    ),
    Step(
        "captions.video (by address)",
        lambda client, found: client.captions.video(found.video_url, "One word: what moves?"),
        "caption_key",
        None,
        ("video_url",),
    ),
    Step(
        "captions.submit_video",
        lambda client, found: client.captions.submit_video(
            found.video(), "One word: what moves?", callback=found.callback_url
        ),
        "caption_key",
        None,
        ("callback_url",),
    ),
    Step(
        "captions.submit_video (by address)",
        lambda client, found: client.captions.submit_video(
            found.video_url, "One word: what moves?", callback=found.callback_url
        ),
        "caption_key",
        None,
        ("callback_url", "video_url"),
    ),
    Step(
        "library.add_images",
        lambda client, found: client.library.add_images(found.picture(), unique_id=NAMESPACE),
        dollars=None,
    ),
    Step("library.add_video", _add_video, dollars=_VIDEO),
    Step("library.wait_until_searchable", _indexed, needs=("video_no",)),
    Step("library.search_clips", _clips, dollars=_SEARCH, needs=("video_no",)),
    Step(
        "library.search",
        lambda client, _: client.library.search("a red bar", unique_id=NAMESPACE),
        dollars=_SEARCH,
    ),
    Step(
        "library.search_similar",
        lambda client, found: client.library.search_similar(found.picture(), unique_id=NAMESPACE),
        dollars=_SEARCH,
    ),
    Step("library.search_transcripts", _transcripts, dollars=_SEARCH),
    Step("library.audio_transcript", _transcript, needs=("video_no",)),
    Step("library.video_captions", _captions, needs=("video_no",)),
    Step("library.download", _download, dollars=_BYTES, needs=("video_no",)),
    Step("library.delete_videos", _delete, needs=("video_no",)),
    Step(
        "library.add_video (by address)",
        _video_by_address,
        dollars=_VIDEO,
        needs=("video_url",),
    ),
    Step("library.delete_videos (by address)", _delete, needs=("video_url", "video_no")),
    Step(
        "embeddings.image",
        lambda client, found: client.embeddings.image(found.picture()),
        dollars=_IMAGE,
    ),
    Step(
        "embeddings.text",
        lambda client, _: client.embeddings.text("a red bar"),
        dollars=Decimal("0.000001"),  # $0.0000002 a token
    ),
    Step("assets.upload", _asset),
    Step(
        "assets.metadata",
        lambda client, found: client.assets.metadata(found.asset_id),
        needs=("asset_id",),
    ),
    Step(
        "embeddings.video",
        lambda client, found: client.embeddings.video(found.asset_id),
        dollars=None,
        needs=("asset_id",),
    ),
    Step("assets.download", _asset_download, dollars=_BYTES, needs=("asset_id",)),
    Step("assets.upload (signed)", _signed_asset),
    Step(
        "embeddings.image (by asset)",
        lambda client, found: client.embeddings.image(asset_id=found.picture_id),
        dollars=_IMAGE,
        needs=("picture_id",),
    ),
)
"""Every billed call in the order in which they can be made; the free ones between them prepare the
next, clean up, or are made since what they need is there."""


def cost_of(
    steps: Sequence[Step], keys: Mapping[KeyName, str], addresses: Mapping[str, str]
) -> tuple[Decimal, int]:
    """Return the published price of the steps that can be made, and how many have none."""
    missing = GIVEN.keys() - addresses.keys()
    made = [step for step in steps if step.key in keys and not missing & {*step.needs}]
    published = functools.reduce(
        ARITHMETIC.add, (step.dollars for step in made if step.dollars is not None), Decimal(0)
    )
    return published, sum(step.dollars is None for step in made)
