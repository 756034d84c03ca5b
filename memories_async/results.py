"""What every answer can do: print in a line, become JSON, a table or a web page, and travel."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    NoReturn,
    Self,
    SupportsIndex,
    TypeVar,
    cast,
    get_args,
    overload,
)

import attrs

from memories_async.checks import checked
from memories_async.checks.kinds import ANYTHING, instance_of, shown
from memories_async.errors import MemoriesError
from memories_async.vectors import Vector

T = TypeVar("T", covariant=True)
V = TypeVar("V")

_ROWS_SHOWN = 20
_ITEMS_SHOWN = 3
_LONGEST_CELL = 200


def wire(*names: str) -> dict[str, tuple[str, ...]]:
    """Name the other spellings under which the service sends a field."""
    return {"wire": names}


class _Fixed(dict[str, V]):
    """A mapping that cannot be changed, as what holds it cannot; a dict to all who read it."""

    __slots__ = ()

    if not TYPE_CHECKING:  # a checker holds them against dict's own

        def _refuse(self, *_: object, **__: object) -> NoReturn:
            """Refuse: what the service said cannot be changed."""
            raise TypeError("what a result holds cannot be changed: take a copy, dict(...)")

        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        return _Fixed, (dict(self),)

    def __copy__(self) -> Self:
        return self

    def copy(self) -> dict[str, V]:
        """Return a dict that can be changed."""
        return dict(self)


def _fixed(given: Mapping[str, object]) -> Mapping[str, object]:
    # Called with its parameter, a generic class tries to note it on what it makes, and fails.
    fixed: _Fixed[object] = given if isinstance(given, _Fixed) else _Fixed(given)
    return fixed


def _fixed_texts(given: Mapping[str, str]) -> Mapping[str, str]:
    fixed: _Fixed[str] = given if isinstance(given, _Fixed) else _Fixed(given)
    return fixed


_OF_THE_CALL: Mapping[str, bool] = {"of_the_call": True}
"""Marks a field that tells of the call, not of the answer: it is in no JSON."""


@checked(model=True)
@attrs.frozen(kw_only=True)
class HttpExchange:
    """The HTTP exchange that an answer came by.

    Attributes:
        status: The HTTP status.
        headers: The answer's headers that say something and are no secret, in lower case.
        seconds: From the call's start to the answer's end, all attempts and waits included.
        digest: A short fingerprint of what was asked, for your own records.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(default=_Fixed[str](), converter=_fixed_texts)
    seconds: float = 0.0
    digest: str = ""


class _PydanticSerializer:
    """What pydantic asks an object for that it knows nothing of, e.g. where ``Any`` is returned."""

    def __get__(self, instance: object, owner: type[Result]) -> object:
        from pydantic_core import SchemaSerializer

        return SchemaSerializer(owner.__get_pydantic_core_schema__(owner, None))


@checked({"data": ANYTHING, "text": instance_of(str, bytes, wanted="JSON")}, model=True)
@attrs.frozen(kw_only=True)
class Result(Mapping[str, object]):
    """What every answer carries beside its own fields.

    A result is also a mapping of its fields and of those in ``extra``: ``dict(result)``, pandas
    and FastAPI take it as it is. It pickles, and ``to_dict`` and ``to_json`` lose nothing that
    the service said.

    Attributes:
        extra: The fields of the answer that this version does not know, as they came.
        attempts: How many attempts the call took.
        http: The HTTP exchange that it came by, where that is known.
    """

    extra: Mapping[str, object] = attrs.field(
        default=_Fixed[object](),
        converter=_fixed,
        hash=False,  # so that a set holds results; what is equal has the same hash anyway
        repr=False,
        metadata=_OF_THE_CALL,
    )
    attempts: int = attrs.field(default=1, eq=False, repr=False, metadata=_OF_THE_CALL)
    http: HttpExchange | None = attrs.field(
        default=None, eq=False, repr=False, metadata=_OF_THE_CALL
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain JSON values in our names, unknown fields beside them."""
        return {**_plain(self.extra), **{name: _plain(getattr(self, name)) for name in self._own()}}

    def to_json(self) -> str:
        """Return the answer as one line of JSON; ``from_json`` reads it again."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Read what ``to_dict`` returned, or what the service sent.

        Args:
            data: Decoded JSON.

        Raises:
            UnexpectedShape: A required field is missing or cannot be read.
        """
        from memories_async.decoding import decode  # late: cattrs comes with the first call

        return decode(data, cls)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what ``to_json`` returned.

        Args:
            text: JSON.

        Raises:
            UnexpectedShape: A required field is missing or cannot be read.
            ValueError: It is not JSON.
        """
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        return cls.from_dict(data)

    def _own(self) -> Iterator[str]:
        for field in attrs.fields(type(self)):
            if not field.metadata.get("of_the_call"):
                yield field.name

    def __iter__(self) -> Iterator[str]:
        own = tuple(self._own())
        return iter((*own, *(name for name in self.extra if name not in own)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str, /) -> object:
        if name in self._own():
            value = getattr(self, name)
            return value.tolist() if isinstance(value, Vector) else value
        return self.extra[name]

    __pydantic_serializer__ = _PydanticSerializer()

    def __json__(self) -> dict[str, Any]:  # asked for by kombu, and so by Celery
        return self.to_dict()

    def _repr_html_(self) -> str:
        rows = [*((name, getattr(self, name)) for name in self._own()), *self.extra.items()]
        return f"<b>{type(self).__name__}</b>{_table((), rows)}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        return _pydantic_schema(
            lambda value: value if isinstance(value, cls) else cls.from_dict(value),
            lambda value: value.to_dict(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__}


class Results(tuple[T, ...]):
    """An answer that is a list: an immutable sequence that also keeps what came beside it.

    It equals a list of the same items. ``pandas.DataFrame(results)`` makes columns of their
    fields; ``polars.DataFrame(results.to_table())`` does.

    Args:
        items: The items.
        extra: What the answer said beside the list, e.g. page numbers, as it came.
        attempts: How many attempts the call took.
        http: The HTTP exchange that it came by, where that is known.
    """

    extra: Mapping[str, object]
    attempts: int
    http: HttpExchange | None

    @checked(model=True)
    def __new__(  # noqa: D102  # the class says it
        cls,
        items: Iterable[T] = (),
        *,
        extra: Mapping[str, object] | None = None,
        attempts: int = 1,
        http: HttpExchange | None = None,
    ) -> Self:
        self = super().__new__(cls, items)
        self.__dict__.update(extra=_fixed(extra or {}), attempts=attempts, http=http)
        return self

    @property
    def total(self) -> int | None:
        """How many there are in all, where the answer is a page of them and says so."""
        said = str(self.extra.get("total_count", self.extra.get("total")))
        return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else None

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, index: slice, /) -> Results[T]: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> T | Results[T]:
        if isinstance(index, slice):
            return Results(super().__getitem__(index), **self.__dict__)
        return super().__getitem__(index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return super().__eq__(
            tuple(cast("list[object]", other)) if isinstance(other, list) else other
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()

    def __repr__(self) -> str:
        shown = [repr(item) for item in self[:_ITEMS_SHOWN]]
        more = [f"… {len(self) - _ITEMS_SHOWN} more"] if len(self) > _ITEMS_SHOWN else []
        return f"Results([{', '.join(shown + more)}])"

    def to_dicts(self) -> list[Any]:
        """Return the items as plain JSON values, unknown fields beside the known."""
        return [_plain(item) for item in self]

    def to_json(self) -> str:
        """Return the items as one line of JSON: an array."""
        return json.dumps(self.to_dicts(), ensure_ascii=False, separators=(",", ":"))

    def to_table(self) -> dict[str, list[Any]]:
        """Return the items as columns, for ``pandas.DataFrame``, ``polars.DataFrame`` and others.

        A column for each field, and for each unknown field that any item has; None where an
        item has no such field.
        """
        rows = [dict(cast("Mapping[str, object]", row)) for row in self if isinstance(row, Mapping)]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [_cell(row.get(name)) for row in rows] for name in names}

    def __json__(self) -> list[Any]:  # asked for by kombu, and so by Celery
        return self.to_dicts()

    def _repr_html_(self) -> str:
        table = self[:_ROWS_SHOWN].to_table()
        rows = list(zip(*table.values(), strict=True))
        more = len(self) - _ROWS_SHOWN
        caption = f"<p>… {more} more</p>" if more > 0 else ""
        return f"<b>{len(self)} results</b>{_table(tuple(table), rows)}{caption}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        kinds = [kind for kind in get_args(source) if issubclass(kind, Result)]

        def read(value: object) -> object:
            if isinstance(value, cls) or not kinds:
                return value
            if not isinstance(value, list | tuple):
                raise ValueError(f"a list is wanted, not {type(value).__name__}")
            items = cast("Iterable[Mapping[str, object]]", value)
            return Results[object](kinds[0].from_dict(item) for item in items)

        return _pydantic_schema(read, lambda value: value.to_dicts())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "object"}}


# Of a frozen class, by what Python itself sets a slot with.
_set_attempts: Callable[[Result, int], None] = vars(Result)["attempts"].__set__
_set_http: Callable[[Result, HttpExchange | None], None] = vars(Result)["http"].__set__


def completed(value: V, *, attempts: int, http: HttpExchange | None = None) -> V:
    """Have a result say how its call went; anything else stays as it is.

    Args:
        value: A result, or results, just made: nobody has seen it without.
        attempts: How many attempts the call took.
        http: The HTTP exchange that it came by.
    """
    result: object = value
    if isinstance(result, Result):
        # A copy of a vector's holder for each call would be a tenth of what the call costs.
        _set_attempts(result, attempts)
        _set_http(result, http)
    elif isinstance(result, Results):
        cast("Results[object]", result).__dict__.update(attempts=attempts, http=http)
    return value


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Vector):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return value


def _cell(value: object) -> Any:
    """Return a value as a column of a table holds it: times and numbers as they are."""
    return value if isinstance(value, datetime) else _plain(value)


def _table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """Return an HTML table; whatever the service said is text in it, and nothing else."""

    def line(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_escaped(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = ([line(head, "th")] if head else []) + [line(row, "td") for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _escaped(value: object) -> str:
    summary = value.summary() if isinstance(value, Vector) else shown(value)
    text = value if isinstance(value, str) else summary
    return html.escape(text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…")


def _pydantic_schema(read: Callable[[Any], object], write: Callable[[Any], object]) -> Any:
    """Tell pydantic, and so FastAPI, how a result is read and written; it is imported by then."""
    from pydantic_core import core_schema

    def validate(value: object) -> object:
        try:
            return read(value)
        except MemoriesError as error:  # what pydantic takes for a refusal, and FastAPI for a 422
            raise ValueError(str(error)) from None

    return core_schema.no_info_plain_validator_function(
        validate, serialization=core_schema.plain_serializer_function_ser_schema(write)
    )
