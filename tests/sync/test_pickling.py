"""A pickled client is rebuilt from its configuration; its keys stay behind."""

from __future__ import annotations

import asyncio
import copy
import pickle
import ssl

import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Rate
from memories_async import Memories as AsyncMemories
from memories_async.emulator import Emulator
from memories_async.sync import Memories
from tests.sync.conftest import PNG

API_KEY = "sk-mavi-API0123456789abcdef"
CAPTION_KEY = "sk-CAPTIONfedcba9876543210"

BOTH_COLOURS = pytest.mark.parametrize("colour", [AsyncMemories, Memories])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORIES_API_KEY", API_KEY)
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", CAPTION_KEY)


def make(colour: type[AsyncMemories | Memories], url: str) -> AsyncMemories | Memories:
    return colour(
        API_KEY,
        caption_key=CAPTION_KEY,
        base_url=url,
        options=CallOptions(deadline=60),
        rates={Bucket.EMBEDDING: Rate(100)},
        max_connections=7,
    )


@BOTH_COLOURS
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_no_key_travels(colour: type[AsyncMemories | Memories], protocol: int) -> None:
    pickled = pickle.dumps(make(colour, "http://127.0.0.1:1"), protocol)
    for key in (API_KEY, CAPTION_KEY):
        assert key.encode() not in pickled
        assert key[3:12].encode() not in pickled


@pytest.mark.usefixtures("environment")
def test_an_asyncio_client_is_rebuilt(emulator: Emulator) -> None:
    async def main() -> None:
        async with AsyncMemories(base_url=emulator.url, max_connections=7) as client:
            await client.captions.image(PNG, "what")
            copied = pickle.loads(pickle.dumps(client))
        assert repr(copied) == repr(client)
        assert copied._settings == client._settings
        async with copied:  # open, although the original has been closed
            assert (await copied.captions.image(PNG, "what")).text

    asyncio.run(main())


@pytest.mark.usefixtures("environment")
def test_a_blocking_client_is_rebuilt(emulator: Emulator) -> None:
    with Memories(base_url=emulator.url, max_connections=7) as client:
        client.captions.image(PNG, "what")
        copied = pickle.loads(pickle.dumps(client))
    assert repr(copied) == repr(client)
    with copied:
        assert copied.captions.image(PNG, "what").text
        assert copied._portal is copied.captions._portal is not client._portal


@pytest.mark.usefixtures("environment")
def test_a_method_may_be_sent_to_a_worker(emulator: Emulator) -> None:
    with Memories(base_url=emulator.url) as client:
        embed = pickle.loads(pickle.dumps(client.embeddings.image))
        assert embed(PNG) == client.embeddings.image(PNG)
        embed.__self__._portal.close()


def embed(client: AsyncMemories | Memories) -> None:
    if isinstance(client, AsyncMemories):
        asyncio.run(client.embeddings.image(PNG))
    else:
        with client:
            client.embeddings.image(PNG)


@BOTH_COLOURS
def test_without_the_environment_s_key_the_call_says_so(
    colour: type[AsyncMemories | Memories], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMORIES_API_KEY", raising=False)
    copied = pickle.loads(pickle.dumps(make(colour, "http://127.0.0.1:1")))
    with pytest.raises(ConfigurationError, match="pass api_key or set MEMORIES_API_KEY"):
        embed(copied)


@BOTH_COLOURS
def test_what_cannot_travel_is_refused(colour: type[AsyncMemories | Memories]) -> None:
    client = colour(API_KEY, ssl_context=ssl.create_default_context())
    with pytest.raises(TypeError, match="SSLContext"):
        pickle.dumps(client)


@pytest.mark.usefixtures("environment")
def test_a_copy_is_a_client_of_its_own(emulator: Emulator) -> None:
    with Memories(base_url=emulator.url) as client, copy.deepcopy(client) as copied:
        assert copied._portal is not client._portal
        assert copied.captions.image(PNG, "what").text
