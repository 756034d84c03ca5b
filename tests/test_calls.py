"""Each operation by each way in: the exact request, and the typed result of the page's answer."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from memories_async import Memories, Results
from memories_async.operations import OPERATIONS, Service
from memories_async.sync import Memories as Blocking
from tests.assets.cases import ASSET_CASES
from tests.assets.refusals import REFUSALS as ASSET_REFUSALS
from tests.captions.cases import IMAGE_CASES, VIDEO_CASES
from tests.captions.refusals import REFUSALS as CAPTION_REFUSALS
from tests.cases import CAPTION_KEY, GENERAL_KEY, Case, Refusal, Req
from tests.embeddings.cases import EMBEDDING_CASES
from tests.embeddings.refusals import REFUSALS as EMBEDDING_REFUSALS
from tests.library.cases import LIBRARY_CASES
from tests.library.refusals import REFUSALS as LIBRARY_REFUSALS
from tests.recorder import Part, Recorded, Recorder, parts_of
from tests.service import beside, client, clock, folder, recorder

pytestmark = pytest.mark.anyio

__all__ = ["beside", "client", "clock", "folder", "recorder"]  # fixtures

CASES = (*IMAGE_CASES, *VIDEO_CASES, *LIBRARY_CASES, *EMBEDDING_CASES, *ASSET_CASES)
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call}: {case.name}")
REFUSALS = (*CAPTION_REFUSALS, *LIBRARY_REFUSALS, *EMBEDDING_REFUSALS, *ASSET_REFUSALS)
EACH_REFUSAL = pytest.mark.parametrize(
    "row", REFUSALS, ids=lambda row: f"{row.call}: {row.says[0]}"
)
ITERATES = {"library.videos", "library.search_transcripts"}


async def made(client: Memories, row: Case | Refusal, folder: Path) -> object:
    """Make the row's call; return all that comes of it."""
    with ExitStack() as files:
        args, kwargs = row.arguments(folder, files)
        returned = attrgetter(row.call)(client)(*args, **kwargs)
        if isinstance(returned, AsyncIterator):
            return [item async for item in returned]
        return await returned


def made_blocking(client: Blocking, row: Case | Refusal, folder: Path) -> object:
    """Make the row's call on the blocking client."""
    with ExitStack() as files:
        args, kwargs = row.arguments(folder, files)
        returned = attrgetter(row.call)(client)(*args, **kwargs)
        return list(returned) if isinstance(returned, Iterator) else returned


@EACH_CASE
async def test_the_request_and_the_result(
    case: Case, recorder: Recorder, client: Memories, folder: Path
) -> None:
    recorder.answer(case.answer)
    result = await made(client, case, folder)
    [request] = recorder.requests
    check_request(request, case)
    check_result(result, case)


@EACH_CASE
def test_the_request_and_the_result_blocking(case: Case, beside: Recorder, folder: Path) -> None:
    beside.answer(case.answer)
    with Blocking(GENERAL_KEY, caption_key=CAPTION_KEY, base_url=beside.url) as client:
        result = made_blocking(client, case, folder)
    [request] = beside.requests
    check_request(request, case)
    check_result(result, case)


def check_request(request: Recorded, case: Case) -> None:
    """Compare what came with what the row says, to the byte where it is not JSON."""
    assert f"{request.method} {request.target}" == case.sends
    assert request.headers["Authorization"] == case.key
    assert "Transfer-Encoding" not in request.headers
    content_type = request.headers.get("Content-Type", "")
    if case.json is not None:
        assert content_type == "application/json"
        assert_same_json(request.body, case.json)
    elif case.parts is not None:
        media_type, _, boundary = content_type.partition("; boundary=")
        assert media_type == "multipart/form-data"
        assert boundary
        check_parts(parts_of(content_type, request.body), case.parts)
    elif case.form is not None:
        assert content_type.partition(";")[0] == "application/x-www-form-urlencoded"
        assert request.body == case.form
    else:
        assert request.body == b""
        assert not content_type
        return
    assert request.headers["Content-Length"] == str(len(request.body))


def check_parts(parts: list[Part], expected: Sequence[Req | Part]) -> None:
    """Compare the parts in their order."""
    assert [part.name for part in parts] == [
        "req" if isinstance(part, Req) else part.name for part in expected
    ]
    for part, wanted in zip(parts, expected, strict=True):
        if isinstance(wanted, Req):
            assert (part.filename, part.content_type) == ("req.json", "application/json")
            assert_same_json(part.content, wanted.fields)
        else:
            assert part == wanted


def assert_same_json(sent: bytes, expected: object) -> None:
    """Compare as text: in Python ``True == 1`` and ``1 == 1.0``, on the wire they differ."""
    assert json.dumps(json.loads(sent), sort_keys=True) == json.dumps(expected, sort_keys=True)


def check_result(result: object, case: Case) -> None:
    """Compare value and type, and what was not known of it."""
    assert result == case.result
    if not isinstance(case.result, list):
        assert type(result) is type(case.result)
        assert getattr(result, "extra", None) == getattr(case.result, "extra", None)
        return
    if case.call not in ITERATES:
        assert type(result) is Results
        assert result.attempts == 1
    assert isinstance(result, Sequence)
    for one, other in zip(result, case.result, strict=True):
        assert one.extra == other.extra


def test_every_operation_is_in_the_table() -> None:
    elsewhere = {"library.download", "assets.download"}  # test_downloads.py
    rows = {
        f"{row.method} {row.path}"
        for row in OPERATIONS
        if row.service is not Service.STORAGE and row.call not in elsewhere
    }
    sent = {case.sends.partition("?")[0] for case in CASES}
    in_paths = {row for row in rows if "{" in row or "signed-url" in row}
    assert rows - in_paths == sent - {"GET /serve/api/v2/re_1%2F%C3%A9/metadata"}
    assert {case.call for case in CASES} == {row.call for row in OPERATIONS} - elsewhere
    assert len({(case.call, case.name) for case in CASES}) == len(CASES)


@EACH_REFUSAL
async def test_refused_before_anything_is_sent(
    row: Refusal, recorder: Recorder, client: Memories, folder: Path
) -> None:
    with pytest.raises(row.error) as caught:
        await made(client, row, folder)
    for words in row.says:
        assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert recorder.requests == []


@EACH_REFUSAL
def test_refused_before_anything_is_sent_blocking(row: Refusal, folder: Path) -> None:
    nowhere = Blocking(GENERAL_KEY, caption_key=CAPTION_KEY, base_url="http://127.0.0.1:1")
    with nowhere as client, pytest.raises(row.error) as caught:
        made_blocking(client, row, folder)
    for words in row.says:
        assert words in str(caught.value)


class EveryHostHere(AbstractResolver):
    """Takes every host name to one port of this machine."""

    port = 0

    def __init__(self, loop: object = None) -> None:
        pass

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        here = ResolveResult(
            hostname=host, host="127.0.0.1", port=self.port, family=family, proto=0, flags=0
        )
        return [here]

    async def close(self) -> None:
        pass


@pytest.fixture
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the servers under the hosts' own names, and for a client that trusts them."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*sorted({case.host for case in CASES})).configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return serving, trusting


@pytest.fixture
async def service(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Recorder, Memories]]:
    """The three hosts under their own names, and a client."""
    serving, trusting = certificates
    for variable in ("MEMORIES_BASE_URL", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    async with (
        Recorder(serving) as recorder,
        Memories(GENERAL_KEY, caption_key=CAPTION_KEY, rates={}, ssl_context=trusting) as client,
    ):
        monkeypatch.setattr(EveryHostHere, "port", recorder.port)
        monkeypatch.setattr("aiohttp.connector.DefaultResolver", EveryHostHere)
        yield recorder, client


async def test_each_service_is_called_at_its_own_address(
    service: tuple[Recorder, Memories], folder: Path
) -> None:
    recorder, client = service
    for case in CASES:
        recorder.answer(case.answer)
        result = await made(client, case, folder)
        assert recorder.requests[-1].headers["Host"] == case.host, case.name
        check_request(recorder.requests[-1], case)
        check_result(result, case)
    assert len(recorder.requests) == len(CASES)
