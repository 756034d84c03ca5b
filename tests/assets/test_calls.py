"""Assets that have no record, and keys."""

from __future__ import annotations

import pytest

from memories_async import ConfigurationError, Memories, UnexpectedShape
from tests.cases import v2
from tests.recorder import Recorder

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("signed", [True, False])
async def test_a_missing_key_is_told_before_a_file_is_touched(
    recorder: Recorder, signed: bool
) -> None:
    async with Memories(caption_key="caption", base_url=recorder.url) as client:
        with pytest.raises(ConfigurationError, match="MEMORIES_API_KEY"):
            await client.assets.upload("no such file.mp4", signed=signed)


async def test_an_asset_without_a_record(recorder: Recorder, client: Memories) -> None:
    recorder.answer(v2('{"resource":[]}'))
    with pytest.raises(UnexpectedShape, match="holds no record"):
        await client.assets.metadata("re_1")
