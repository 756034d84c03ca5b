"""Each operation by each way in: the exact request, and the typed result of the page's answer."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from memories_async import Memories, Results
from memories_async.operations import ADD_VIDEO_URL, OPERATIONS
from tests.operations.caption_cases import IMAGE_CASES, VIDEO_CASES
from tests.operations.cases import CAPTION_KEY, GENERAL_KEY, Case, Req
from tests.operations.library_cases import EMBEDDING_CASES, LIBRARY_CASES
from tests.operations.recorder import Part, Recorded, Recorder, parts_of

pytestmark = pytest.mark.anyio

CASES = (*IMAGE_CASES, *VIDEO_CASES, *LIBRARY_CASES, *EMBEDDING_CASES)
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))


async def call(client: Memories, case: Case, folder: Path) -> object:
    """Make the row's call."""
    method = attrgetter(case.call)(client)
    with ExitStack() as files:
        args, kwargs = case.arguments(folder, files)
        return await method(*args, **kwargs)


@EACH_CASE
async def test_the_request_and_the_result(
    case: Case, recorder: Recorder, client: Memories, folder: Path
) -> None:
    recorder.answer(case.answer)
    result = await call(client, case, folder)
    [request] = recorder.requests
    check_request(request, case)
    check_result(result, case)


def check_request(request: Recorded, case: Case) -> None:
    """Compare what came with what the row says, to the byte where it is not JSON."""
    assert (request.method, request.target) == (case.method, case.path)
    assert request.headers["Authorization"] == case.key
    assert "Transfer-Encoding" not in request.headers
    if case.json is not None:
        assert request.headers["Content-Type"] == "application/json"
        assert_same_json(request.body, case.json)
    elif case.parts is not None:
        media_type, _, boundary = request.headers["Content-Type"].partition("; boundary=")
        assert media_type == "multipart/form-data"
        assert boundary
        check_parts(parts_of(request.headers["Content-Type"], request.body), case.parts)
    else:
        assert request.body == b""
        assert "Content-Type" not in request.headers
        return
    assert request.headers["Content-Length"] == str(len(request.body))


def check_parts(parts: list[Part], expected: tuple[Req | Part, ...]) -> None:
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
    """Compare value and type."""
    assert result == case.result
    if isinstance(case.result, list):
        assert type(result) is Results
        assert result.attempts == 1
    else:
        assert type(result) is type(case.result)


def test_every_operation_is_in_the_table() -> None:
    # The ten of the documentation's five pages, and what they need; tests/neighbours has the rest.
    calls = {case.call for case in CASES}
    wanted = {(row.method, row.path) for row in OPERATIONS if row.call in calls} - {
        ("POST", ADD_VIDEO_URL.path)
    }
    assert {(case.method, case.path.partition("?")[0]) for case in CASES} == wanted
    assert len({case.name for case in CASES}) == len(CASES)


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
        result = await call(client, case, folder)
        assert recorder.requests[-1].headers["Host"] == case.host, case.name
        check_request(recorder.requests[-1], case)
        check_result(result, case)
    assert len(recorder.requests) == len(CASES)
