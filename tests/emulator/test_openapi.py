"""The emulator's own description: valid, true to the handlers, and no way to break them."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

import aiohttp
import attrs
import pytest
import requests
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings

from memories_async.emulator import Emulator
from memories_async.emulator.handlers.validation import FIELDS, FieldType
from memories_async.emulator.http import openapi
from memories_async.operations import OPERATIONS, Body, Operation
from tests.emulator.conftest import KEY, MP4, PNG, KnownEngine, post_any, session_for

if TYPE_CHECKING:
    import schemathesis

SLOW = pytest.mark.slow
EACH_ROW = pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)


def test_the_document_is_valid() -> None:
    with warnings.catch_warnings(action="ignore"):  # of what it loads in turn
        from openapi_spec_validator import OpenAPIV31SpecValidator

    OpenAPIV31SpecValidator(openapi.document()).validate()


def test_the_document_has_every_operation() -> None:
    described = {
        (method.upper(), path)
        for path, methods in openapi.document()["paths"].items()
        for method in methods
    }
    signed = ("POST", "/storage/{asset_id}")
    assert described == {
        signed if row.name == "send_signed" else (row.method, row.path) for row in OPERATIONS
    }
    [image] = openapi.document()["paths"]["/serve/api/v2/embeddings/image"].values()
    assert set(image["requestBody"]["content"]) == {"multipart/form-data", "application/json"}


@pytest.mark.anyio
async def test_the_document_is_served(emulator: Emulator) -> None:
    async with aiohttp.ClientSession(emulator.url) as client:  # without a key
        async with client.get("/openapi.json") as response:
            assert await response.json() == openapi.document()
        headers = {"Host": "evil.example"}
        async with client.get("/openapi.json", headers=headers) as response:
            assert response.status == 403
    assert len(emulator.ledger) == 0


SAMPLES = {
    FieldType.TEXT: "text",
    FieldType.TEXTS: ["text"],
    FieldType.INTEGER: 1,
    FieldType.NUMBER: 1.5,
}


@EACH_ROW
@pytest.mark.anyio
async def test_what_is_said_to_be_required_is_required(
    emulator: Emulator, row: Operation[object]
) -> None:
    required = [field for field in FIELDS[row.name] if field.missing is not None]
    if row.file_part or row.method == "GET" or not required:
        return
    whole = {f.name: f.choices[0] if f.choices else SAMPLES[f.kind] for f in required}
    async with session_for(emulator) as client:
        for field in required:
            body = {name: value for name, value in whole.items() if name != field.name}
            form = row.body is Body.FORM
            _, answer = await post_any(client, row.path, aiohttp.FormData(body) if form else body)
            if not form:
                assert str(answer["msg"]).removeprefix("failure: ") == field.missing


@attrs.frozen
class Running:
    """An emulator that keeps a video, an image and an asset."""

    url: str
    known: Mapping[str, str]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Run it in a thread of its own, for schemathesis waits for its answers in this one."""
    emulator = Emulator(KnownEngine())
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        url = emulator.url
        options = {"headers": {"Authorization": KEY}, "proxies": {"no_proxy": "*"}}
        image = {"files": ("a.png", PNG, "image/png")}
        requests.post(f"{url}/serve/api/v1/upload_img", files=image, **options)
        video = {"file": ("film.mp4", MP4, "video/mp4")}
        added = requests.post(f"{url}/serve/api/v1/upload", files=video, **options)
        asset = requests.post(f"{url}/serve/api/v2/upload", files=video, **options)
        known = {
            "video_no": added.json()["data"]["videoNo"],
            "asset_id": asset.json()["data"]["asset_id"],
        }
        yield Running(url, known)


def with_known_ids(case: schemathesis.Case, known: Mapping[str, str]) -> None:
    """Ask for what there is, where anything is asked for by its id."""
    for place in case.path_parameters, case.query, case.body:
        if isinstance(place, MutableMapping):
            place.update({name: known[name] for name in known.keys() & place.keys()})


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve no name: the addresses that are made up must not be looked for."""

    real = socket.getaddrinfo

    def resolve(host: str, *args: object, **options: object) -> list[object]:
        if host != "127.0.0.1":
            raise socket.gaierror(f"{host} is not looked up")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("NO_PROXY", "*")


SHAPES = {(row.body, row.call.partition(".")[0]): row for row in OPERATIONS}
"""A row for each way to write a body, and for each namespace that does."""


@pytest.mark.parametrize(
    ("row", "examples"),
    [
        *(pytest.param(row, 8, id=row.name) for row in SHAPES.values()),
        *(pytest.param(row, 150, id=f"{row.name}-150", marks=SLOW) for row in OPERATIONS),
    ],
)
def test_no_request_breaks_the_emulator(
    running: Running, no_names: None, row: Operation[object], examples: int
) -> None:
    # It takes half a second, which only a process that runs this needs to spend.
    with warnings.catch_warnings(action="ignore"):  # of what it loads in turn
        import schemathesis
        from schemathesis import GenerationMode
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import response_schema_conformance

    schema = schemathesis.openapi.from_dict(openapi.document())
    schema.config.update(base_url=running.url)
    path = "/storage/{asset_id}" if row.name == "send_signed" else row.path
    operation = schema[path][row.method]
    headers = {} if row.name == "send_signed" else {"Authorization": KEY}
    answered: set[int] = set()

    def known(case: schemathesis.Case) -> schemathesis.Case:
        with_known_ids(case, running.known)
        return case

    valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    invalid = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @given(case=valid | valid.map(known) | invalid)
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def drive(case: schemathesis.Case) -> None:
        response = case.call_and_validate(
            headers=headers, checks=[not_a_server_error, response_schema_conformance]
        )
        answered.add(response.status_code)

    drive()
    assert answered
    assert max(answered) < 500
