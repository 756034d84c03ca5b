"""The operations table: complete, and each row with its method, blocking method and handler."""

from __future__ import annotations

import importlib.util
import inspect
from operator import attrgetter

import attrs
import pytest

from memories_async import Memories, Results, models, operations
from memories_async._engine.convert import structure
from memories_async.emulator.handlers import HANDLERS
from memories_async.operations import OPERATIONS, Body, Operation, Replay, Service
from tests.for_each import for_each

EACH_ROW = for_each({row.name: row for row in OPERATIONS})


def test_every_row_is_in_the_table_once() -> None:
    rows = [value for value in vars(operations).values() if isinstance(value, Operation)]
    assert set(rows) == set(OPERATIONS)
    assert len(rows) == len(OPERATIONS)
    assert len({row.name for row in rows}) == len(rows)
    assert len({(row.method, row.path, row.body) for row in rows}) == len(rows)


def test_the_table_has_the_ten_documented_operations() -> None:
    documented = {
        "/v1/understand/uploadImg",
        "/v1/understand/uploadImgFile",
        "/v1/understand/uploadImgFileBase64",
        "/v1/understand/upload",
        "/v1/understand/uploadFile",
        "/v1/understand/uploadSync",
        "/v1/understand/uploadFileSync",
        "/serve/api/v1/upload_img",
        "/serve/api/v1/search_clips_by_image",
        "/serve/api/v2/embeddings/image",
    }
    assert documented <= {row.path for row in OPERATIONS if row.method == "POST"}


@EACH_ROW
def test_a_row_is_named_as_its_constant(row: Operation[object]) -> None:
    assert getattr(operations, row.name.upper()) is row


@EACH_ROW
def test_a_row_is_consistent(row: Operation[object]) -> None:
    multipart = row.body in (Body.REQ_AND_FILES, Body.FIELDS_AND_FILES)
    assert bool(row.file_part) == multipart
    assert (row.takes is not None) == (multipart or row is operations.CAPTION_IMAGE_BASE64)
    assert (row.body is Body.QUERY) == (row.method == "GET")
    assert row.path.startswith("/") or row.service is Service.STORAGE
    assert bool(row.page) == (row.service is not Service.STORAGE)
    assert bool(row.array_field) == (row.body is Body.JSON_ARRAY)
    assert str(row) == f"{row.call} ({row.method} {row.path})"


def test_what_may_be_sent_again_though_it_is_posted() -> None:
    posted = {row for row in OPERATIONS if row.method == "POST"}
    free = {row for row in posted if row.replay is Replay.FREE_READ}
    assert free == {
        operations.LIST_VIDEOS,
        operations.DELETE_VIDEOS,
        operations.DOWNLOAD_VIDEO,
        operations.SEND_SIGNED,
    }


@EACH_ROW
def test_a_row_has_a_result_that_can_be_read(row: Operation[object]) -> None:
    origin = getattr(row.result, "__origin__", row.result)
    model = row.result.__args__[0] if origin is Results else row.result  # type: ignore[attr-defined]  # Results[model]
    assert issubclass(model, models.Result | None)
    if origin is Results:
        assert structure([], row.result) == []


@EACH_ROW
def test_a_row_has_a_public_method(row: Operation[object]) -> None:
    namespace, _, name = row.call.partition(".")
    method = getattr(getattr(Memories("key"), namespace), name)
    iterates = str(inspect.signature(method).return_annotation).startswith("AsyncIterator")
    assert inspect.iscoroutinefunction(method) or iterates


@EACH_ROW
def test_a_row_has_a_handler_in_the_emulator(row: Operation[object]) -> None:
    assert row.name in HANDLERS


def test_the_emulator_has_no_other_handlers() -> None:
    assert set(HANDLERS) == {row.name for row in OPERATIONS}


def test_every_method_that_sends_is_in_the_table() -> None:
    client = Memories("key")
    for namespace in ("captions", "library", "embeddings", "assets"):
        source = inspect.getsource(type(getattr(client, namespace)))
        used = {row.name.upper() for row in OPERATIONS if row.call.startswith(f"{namespace}.")}
        assert used == {name for name in vars(operations) if name in source and _is_row(name)}


def _is_row(name: str) -> bool:
    return isinstance(getattr(operations, name), Operation)


def test_rows_are_values() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OPERATIONS[0].path = "/elsewhere"  # type: ignore[misc]  # that is the point


BLOCKING = importlib.util.find_spec("memories_async.sync")


@EACH_ROW
def test_a_row_has_a_blocking_method(row: Operation[object]) -> None:
    assert BLOCKING is not None
    sync = importlib.import_module("memories_async.sync")
    with sync.Memories("key") as client:
        method = attrgetter(row.call)(client)
    assert callable(method)
    assert not inspect.iscoroutinefunction(method)
