"""JSON by the standard library is JSON by orjson: what is read, written and refused."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum, IntEnum, StrEnum
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memories_async
from memories_async._json import standard
from tests import sources
from tests.for_each import for_each

ROOT = Path(memories_async.__file__).parent.parent
WITHOUT_ORJSON = "import sys; sys.modules['orjson'] = None; "


def read(loads: Callable[[bytes | str], object], data: bytes | str) -> tuple[str, str]:
    """Return the type and value that come of a document, or that it was refused."""
    try:
        value = loads(data)
    except json.JSONDecodeError:
        return "refused", ""
    return type(value).__name__, repr(value)


DOCUMENTS: tuple[bytes | str, ...] = (
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"123456789012345678901234567890",
    b"1" * 400,
    b"1" * 5000,
    b"-0",
    b"-0.0",
    b"1e5",
    b"1E+5",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"[1e308,1e309]",
    b"1.7976931348623159e308",
    b"123456789012345678901234567890e-10",
    b"12345678901234567890.0",
    b"NaN",
    b"[NaN]",
    b"Infinity",
    b"-Infinity",
    b"01",
    b"+1",
    b"1.",
    b".5",
    b"0x10",
    b"1_000",
    "\u0661".encode(),  # a digit, but none of JSON's
    rb'"\ud800"',
    rb'"\udc00\ud800"',
    rb'"\ud83d\ude00"',
    rb'"\\ud800"',
    rb'{"\ud800":1}',
    rb'[{"a":["\uD800"]}]',
    rb'"\u0000"',
    rb'"\x"',
    rb'"\u12"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"abc\xe2\x82',
    b'"\x01"',
    b'"\x7f"',
    b'"\n"',
    b"\xef\xbb\xbf{}",
    "\ufeff{}",
    "{}".encode("utf-16"),
    '"\ud800"',
    '"é\u2028😀"',
    b'{"a":1,"a":2}',
    b'{"a":{"b":1,"b":[]},"a":{}}',
    b"",
    b" ",
    b"[1,]",
    b'{"a":1,}',
    b"{1:2}",
    b"{'a':1}",
    b"[1 2]",
    b"1 2",
    b"{}{}",
    b"\x00",
    b'{"a":1}\x00',
    b"1\x0b",
    "\xa01",
    b" \t\r\n[ 1 , true , false , null ] \n",
    b"nul",
    b"True",
    b"[",
    b'"abc',
    b"// no\n1",
    b"[" * 200 + b"]" * 200,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    b"[" * 1025 + b"]" * 1025,
    b"[" * 100_000,
    b"[" + b",".join([b"[]"] * 2000) + b"]",
    b'["' + b"[{" * 2000 + b'"]',
)


@for_each({f"{number}: {data[:40]!r}": data for number, data in enumerate(DOCUMENTS)})
def test_a_document_is_read_alike(data: bytes | str) -> None:
    assert read(standard.loads, data) == read(orjson.loads, data)


def test_buffers_are_read_and_nothing_else() -> None:
    for kind in (bytearray, memoryview):
        assert standard.loads(kind(b"[1]")) == [1]
    for wrong in (None, 5, [b"1"]):
        with pytest.raises(json.JSONDecodeError, match="Input must be bytes"):
            standard.loads(wrong)  # type: ignore[arg-type]  # what is refused
        with pytest.raises(json.JSONDecodeError, match="Input must be bytes"):
            orjson.loads(wrong)  # type: ignore[arg-type]  # what is refused


class Word(str):
    __slots__ = ()


class Number(int):
    pass


class Fraction(float):
    pass


class Array(list[int]):
    pass


class Colour(Enum):
    RED = "red"


class Step(IntEnum):
    ONE = 1


class Kind(StrEnum):
    FILM = "film"


Pair = namedtuple("Pair", "one two")


@dataclass
class Data:
    b: int = 1
    a: int = 2
    _hidden: int = 3


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth - 1):
        value = [value]
    return value


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)

VALUES: tuple[object, ...] = (
    None,
    True,
    [1, True, 0, False],
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    {"a": 2**70},
    math.nan,
    [math.inf, -math.inf],
    -0.0,
    0.1,
    1e-5,
    1.25e-5,
    -3.7e-05,
    1e-6,
    1e-7,
    5e-324,
    123456789.125,
    'é\x7f\x00\x1f\u2028"\\/\n\b\f😀',
    "\ud800",
    {"\ud800": 1},
    Word("word"),
    Number(4),
    Number(2**64),
    Fraction(1.5),
    Array([1]),
    OrderedDict(b=1, a=2),
    (1, (2, [3])),
    Pair(1, 2),
    Colour.RED,
    Step.ONE,
    Kind.FILM,
    {1: 2},
    {None: 1},
    {Word("a"): 1},
    {Kind.FILM: 1},
    b"bytes",
    {1},
    object(),
    float,
    Data(),
    Data,
    uuid.UUID(int=1),
    datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2020, 1, 2),
    date(2020, 1, 2),
    time(1, 2, 3),
    timedelta(1),
    {"b": 1, "a": {"d": 1, "c": 2}, "é": 1, "Z": 2, "\U0001f600": 3, "\uffff": 4, "": 5},
    nested(200),
    nested(254),
    # nested(255): orjson before 3.11 takes it, later ones refuse it
    nested(300),
    CIRCLE,
)


def written(dumps: Callable[..., bytes], value: object, *arguments: object) -> bytes | None:
    try:
        return dumps(value, *arguments)
    except TypeError:
        return None


@for_each({f"{number}: {type(value).__name__}": value for number, value in enumerate(VALUES)})
def test_a_value_is_written_alike(value: object) -> None:
    def shown(unknown: object) -> object:
        if isinstance(unknown, set | bytes):
            return list(unknown)
        return "a date" if isinstance(unknown, date | time) else unknown

    for default in (None, str, shown, lambda unknown: 1 / 0):
        for ours, theirs in (
            (0, 0),
            (standard.OPT_SORT_KEYS, orjson.OPT_SORT_KEYS),
            (standard.OPT_PASSTHROUGH_DATETIME, orjson.OPT_PASSTHROUGH_DATETIME),
        ):
            assert written(standard.dumps, value, default, ours) == written(
                orjson.dumps, value, default, theirs
            )


# Between these, floats are spelled by their digits alone; beyond, orjson's versions differ.
SPELLED_ALIKE = st.floats(1e-5, 1e15) | st.floats(-1e15, -1e-5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | SPELLED_ALIKE | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON_VALUES)
def test_any_value_is_written_and_read_alike(value: object) -> None:
    assert standard.dumps(value) == orjson.dumps(value)
    assert standard.dumps(value, None, standard.OPT_SORT_KEYS) == orjson.dumps(
        value, option=orjson.OPT_SORT_KEYS
    )
    assert read(standard.loads, orjson.dumps(value)) == read(orjson.loads, orjson.dumps(value))
    escaped = json.dumps(value)
    assert read(standard.loads, escaped) == read(orjson.loads, escaped)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_comes_back_as_it_was(value: float) -> None:
    assert repr(standard.loads(standard.dumps(value))) == repr(value)
    assert repr(orjson.loads(standard.dumps(value))) == repr(value)


@given(data=st.binary() | st.text('[]{}",:\\ud8dc01eE+-.ntfalsrub \n\ufeff\ud800'))
def test_any_text_is_read_or_refused_alike(data: bytes | str) -> None:
    assert read(standard.loads, data) == read(orjson.loads, data)


def test_one_module_alone_names_orjson() -> None:
    named = [
        path.relative_to(sources.PACKAGE).as_posix()
        for path in sources.MODULES
        for node in ast.walk(sources.parsed(path))
        if (isinstance(node, ast.ImportFrom) and node.module == "orjson")
        or (isinstance(node, ast.Import) and any(name.name == "orjson" for name in node.names))
    ]
    assert set(named) == {"_json/__init__.py"}


def test_orjson_is_taken_where_it_is_and_missed_nowhere() -> None:
    what = "from memories_async import _json; print(_json.loads.__module__, _json.loads(b'[1]'))"
    for before, taken in (("", "orjson"), (WITHOUT_ORJSON, "memories_async._json.standard")):
        ended = subprocess.run(
            [sys.executable, "-c", before + what], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{taken} [1]\n", "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_suite_holds_without_orjson() -> None:
    """The rooms that read and write JSON: wire, engine, callbacks' payloads, recordings, jobs."""
    rooms = (
        *("captions", "library", "embeddings", "assets", "wire"),
        *(f"engine/test_{name}.py" for name in ("envelope", "body", "convert", "call_options")),
        *(f"callbacks/test_{name}.py" for name in ("payloads", "inbox")),
        *(f"emulator/test_{name}.py" for name in ("recording", "operations", "folder")),
        *(f"bulk/test_{name}.py" for name in ("inputs", "once", "jobs", "old_files")),
        *("test_results.py", "test_whole_life.py"),
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_ORJSON + "import pytest; sys.exit(pytest.main(sys.argv[1:]))",
            *("-q", "-p", "no:cacheprovider"),
            # The standard library of 3.11 reads some 900 levels, orjson 1,024: both are refused.
            *("-k", "not test_an_answer_nested_beyond_what_python_can_hand_on"),
            *(str(ROOT / "tests" / room) for room in rooms),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-5000:]
