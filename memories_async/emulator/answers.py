"""Answers that a test chooses, in the SDK's names: checked against the model of the operation."""

from __future__ import annotations

import inspect
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeGuard, cast, get_args, get_origin, overload

import attrs

from memories_async import _json, operations
from memories_async.checks import ConfigurationError, checked
from memories_async.checks.kinds import (
    ANY_TEXT,
    COUNT,
    FLAG,
    HOOK,
    INTEGER,
    NUMBER,
    NUMBERS,
    Kind,
    Problem,
    instance_of,
    shown,
)
from memories_async.emulator import callbacks
from memories_async.emulator.handlers import file_checks, validation
from memories_async.emulator.handlers.request import Callback, HandlerRequest, HandlerResult
from memories_async.emulator.ledger import OPERATION, LedgerEntry, matches
from memories_async.operations import OPERATIONS, Operation

Condition: TypeAlias = Mapping[str, object] | Callable[[LedgerEntry], bool]
"""Fields that a request must have, or a function that looks at its entry in the ledger."""

_SUBMISSIONS = frozenset({operations.SUBMIT_VIDEO_URL.name, operations.SUBMIT_VIDEO_FILE.name})
_OF_THE_CALL = frozenset({"extra", "attempts", "http"})
_NOT_SENT = frozenset({("Embedding", "model")})  # the client adds it
_FIELD_OF = {
    "camera_model": "camera_tag",
    "name": "video_name",
    "page_size": "size",
    "prompt": "user_prompt",
    "query": "search_param",
    "texts": "input",
}
"""What the SDK calls otherwise than the service, and sends as it was given."""
_PLAIN: Mapping[object, Kind] = {
    str: ANY_TEXT,
    int: INTEGER,
    float: NUMBER,
    bool: FLAG,
    datetime: instance_of(datetime, wanted="a datetime"),
}
"""What may be in a field, as far as it can be sent."""
_NO_IDENTIFIERS = ("", "null")


def _when_problem(name: str, value: object) -> Problem:
    return None if isinstance(value, Mapping) else HOOK.problem(name, value)


_WHEN = Kind(
    "a mapping of the request's fields or a function of its entry in the ledger",
    lambda value: isinstance(value, Mapping) or callable(value),
    _when_problem,
)


@attrs.frozen
class ChosenAnswer:
    """What comes in place of the engine's answer, for which requests.

    Attributes:
        operation: A row of the table or a call.
        value: What the call is to return: the model, a mapping of its fields, or a list of these.
        when: Which requests it is for; None is all.
        times: How many requests are answered so; None is all.
    """

    operation: str
    value: object
    when: Condition | None = None
    times: int | None = None


class Answers(Sequence[ChosenAnswer]):
    """The chosen answers; for each request the first that fits and is not used up is given."""

    def __init__(self) -> None:
        self._answers: list[ChosenAnswer] = []
        self._given: list[int] = []

    @overload
    def __getitem__(self, index: int) -> ChosenAnswer: ...
    @overload
    def __getitem__(self, index: slice) -> list[ChosenAnswer]: ...
    def __getitem__(self, index: int | slice) -> ChosenAnswer | list[ChosenAnswer]:
        return self._answers[index]

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[ChosenAnswer]:
        return iter(list(self._answers))

    def __repr__(self) -> str:
        return f"<Answers: {self._answers}>"

    @checked({"operation": OPERATION, "when": _WHEN, "times": COUNT})
    def add(
        self,
        operation: str,
        value: object = None,
        /,
        *,
        when: Condition | None = None,
        times: int | None = None,
        **fields: object,
    ) -> None:
        """Choose what a call returns.

        ``answers.add("captions.video", text="A rabbit.")`` describes every video so;
        ``answers.add("library.search_clips", [{"start_time": 1, "end_time": 2, "score": 0.9}])``
        finds one clip. Key, rate, fields and the presence of files are checked as ever, and
        nothing else is done with the request: what is not in the library need not be.
        A chosen ``captions.submit_video`` has the fields of a caption, which comes by callback.

        Args:
            operation: A row of the table (``caption_video_url``) or a call (``captions.video``).
            value: The model that the call returns, a mapping of its fields, or for a call that
                returns several a list of either; for a download the bytes. The fields may be given
                by name instead.
            when: The request's own fields that must have these values, in the SDK's names or in
                the service's, or a function of its entry in the ledger, where the files are as
                well. By default every request.
            times: How many requests are answered so; by default all.
            fields: The fields of the model, in the SDK's names.

        Raises:
            ConfigurationError: No operation is called so, or several of different results are; the
                fields are not those of the model or of the request, or no answer can carry them.
        """
        if value is not None and fields:
            raise ConfigurationError(f"{operation}: a value or fields by name, not both")
        rows = [row for row in OPERATIONS if matches(operation, row.name)]
        if len({str(_result(row)) for row in rows}) > 1:
            names = ", ".join(row.name for row in rows)
            raise ConfigurationError(f"{operation} is several operations: name one of {names}")
        chosen = _checked(operation, _result(rows[0]), fields if value is None else value)
        if isinstance(when, Mapping):
            when = _fields_of(rows, cast("Mapping[object, object]", when))
        self._answers.append(ChosenAnswer(operation, chosen, when, times))
        self._given.append(0)

    def clear(self) -> None:
        """Leave all answers to the engine again."""
        self._answers.clear()
        self._given.clear()

    def due(self, entry: LedgerEntry) -> ChosenAnswer | None:
        """Return the answer for a request, and count it as given; None leaves it to the engine."""
        for position, answer in enumerate(self._answers):
            used_up = answer.times is not None and self._given[position] >= answer.times
            meant = not used_up and matches(answer.operation, entry.operation)
            if meant and _fits(answer.when, entry):
                self._given[position] += 1
                return answer
        return None


def _fits(when: Condition | None, entry: LedgerEntry) -> bool:
    if when is None:
        return True
    if callable(when):
        return when(entry)
    return all(_is_sent(value, entry.fields.get(name)) for name, value in when.items())


def _is_sent(value: object, sent: object) -> bool:
    """Return whether a field has a value: a form and a query say numbers and flags as text."""
    return sent == value or (
        isinstance(value, int | float) and str(sent).lower() == str(value).lower()
    )


def _fields_of(rows: Sequence[Operation[Any]], when: Mapping[object, object]) -> dict[str, object]:
    """Return a condition in the service's names.

    Raises:
        ConfigurationError: The requests have no such field, so that it would never be met.
    """
    fields = {field.name for row in rows for field in validation.FIELDS[row.name]}
    names: dict[object, str] = {name: name for name in fields}
    names |= {ours: theirs for ours, theirs in _FIELD_OF.items() if theirs in fields}
    for name in when:
        if name not in names:
            there = ", ".join(sorted(map(str, names))) or "none"
            raise ConfigurationError(
                f"when: {rows[0].call} sends no field {shown(name)}; those that it sends: {there}; "
                "for one that CallOptions adds, give a function"
            )
    return {names[name]: value for name, value in when.items()}


# --- from the SDK's names, checked ------------------------------------------------------------


def _result(row: Operation[Any]) -> Any:
    """Return the model of an operation; of a submission that of the caption that comes later."""
    return operations.CAPTION_VIDEO_URL.result if row.name in _SUBMISSIONS else row.result


def _checked(where: str, wanted: Any, value: object) -> object:
    """Return plain values in the SDK's names.

    Raises:
        ConfigurationError: They are not what the model holds.
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is NoneType:
        if value:
            raise ConfigurationError(f"{where} returns nothing")
        return None
    if isinstance(wanted, type) and wanted.__name__ == "Download":
        if not isinstance(value, bytes):
            raise ConfigurationError(f"{where} is a download: its bytes are wanted, not {value!r}")
        return value
    if origin is not None and attrs.has(arguments[0]):
        if not _is_several(value):
            raise ConfigurationError(
                f"{where} returns several: a list of {arguments[0].__name__} is wanted"
            )
        return [_checked(where, arguments[0], item) for item in value]
    return _model(where, wanted, value)


def _model(where: str, model: type[attrs.AttrsInstance], value: object) -> dict[str, object]:
    hints = typing.get_type_hints(model)
    names = [field.name for field in attrs.fields(model) if field.name not in _OF_THE_CALL]
    if isinstance(value, model):
        given: Mapping[str, object] = {name: getattr(value, name) for name in names}
    elif isinstance(value, Mapping):
        given = cast("Mapping[str, object]", value)
    else:
        raise ConfigurationError(
            f"{where}: a {model.__name__} or its fields are wanted, not {value!r}"
        )
    if unknown := [name for name in given if name not in names]:
        raise ConfigurationError(
            f"{where}: {model.__name__} has no field {unknown[0]!r}; it has {', '.join(names)}"
        )
    for field in attrs.fields(model):
        required = field.default is attrs.NOTHING and (model.__name__, field.name) not in _NOT_SENT
        if required and field.name in names and given.get(field.name) is None:
            raise ConfigurationError(f"{where}: {model.__name__} needs {field.name}")
        if field.metadata.get("identifier") and given.get(field.name) in _NO_IDENTIFIERS:
            raise ConfigurationError(f"{where}: {field.name} is empty, which no identifier is")
    return {
        name: _field(f"{where}: {name}", hints[name], given[name])
        for name in names
        if given.get(name) is not None
    }


def _field(where: str, wanted: Any, value: object) -> object:
    kinds = [one for one in _members(wanted) if one is not NoneType]
    for one in kinds:
        origin = get_origin(one) or one
        kind = _PLAIN.get(origin)
        if attrs.has(origin) and isinstance(value, Mapping | origin):
            return _model(where, origin, cast("object", value))
        if kind is not None and kind.fits(value):
            return _sendable(where, kind, value)
        if (
            kind is None
            and _is_sequence(origin)
            and not isinstance(value, str)
            and _is_several(value)
        ):
            items = list(value)
            if get_args(one):
                return [_field(where, get_args(one)[0], item) for item in items]
            if not items:
                raise ConfigurationError(f"{where} is empty, which no vector is")
            _sendable(where, NUMBERS, items)
            return [float(cast("float", item)) for item in items]
    names = " or ".join(_PLAIN[one].wanted if one in _PLAIN else _name_of(one) for one in kinds)
    raise ConfigurationError(f"{where} is {shown(value)}; {names} is wanted")


def _name_of(wanted: Any) -> str:
    return getattr(wanted, "__name__", str(wanted))


def _sendable(where: str, kind: Kind, value: object) -> object:
    """Return a value as JSON has it.

    Raises:
        ConfigurationError: JSON has no such value.
    """
    if (problem := kind.problem(where, value)) is not None:
        raise ConfigurationError(problem)
    return value if kind.plain is None else kind.plain(value)


def _members(wanted: Any) -> Sequence[Any]:
    return get_args(wanted) if get_origin(wanted) in (UnionType, typing.Union) else (wanted,)


def _is_several(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable) and not isinstance(value, Mapping)


def _is_sequence(origin: Any) -> bool:
    return inspect.isclass(origin) and issubclass(origin, Iterable) and origin is not str


# --- to the wire ------------------------------------------------------------------------------

_SPELLINGS = {
    "tokens": "token",
    "vector": "embedding",
    "lines": "transcriptions",
    "name": "video_name",
    "created_at": "create_time",
    "url": "video_url",
}
_CAMEL = {
    "video_no": "videoNo",
    "name": "videoName",
    "status": "videoStatus",
    "created_at": "uploadTime",
    "start_time": "startTime",
    "end_time": "endTime",
    "lines": "transcriptions",
}
_HITS = {**_CAMEL, "text": "audio_ts"}
_IMAGES = {"image_id": "id", "url": "img_url"}
_ROWS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys((operations.ADD_VIDEO_FILE.name, operations.ADD_VIDEO_URL.name), _CAMEL),
    **dict.fromkeys(
        (operations.GET_AUDIO_TRANSCRIPT.name, operations.GET_VIDEO_CAPTIONS.name), _CAMEL
    ),
    operations.SEARCH_SIMILAR.name: _HITS,
    operations.SEARCH_TRANSCRIPTS.name: _HITS,
    operations.GET_ASSET.name: {"status": "upload_status"},
}
_CAPTIONED_AT_ONCE = frozenset(
    {operations.CAPTION_VIDEO_URL.name, operations.CAPTION_VIDEO_FILE.name}
)


def given(answer: ChosenAnswer, row: Operation[Any], request: HandlerRequest) -> HandlerResult:
    """Return a chosen answer as the service would spell it."""
    if row.file_part:
        file_checks.files(request.files, row.file_part)
    value = answer.value
    if isinstance(value, bytes):
        return HandlerResult(content=value)
    if row.name in _SUBMISSIONS:
        assert _json.is_object(value)
        return _submitted(request, value)
    spelling = _ROWS.get(row.name, _SPELLINGS)
    if row is operations.SEARCH_LIBRARY:
        search = request.text("search_type")
        spelling = {"BY_IMAGE": _IMAGES, "BY_CAPTION": {}}.get(search, _HITS)
    data = _spelt(value, spelling)
    callback = request.text("callback")
    if _json.is_array(data):
        return HandlerResult(_page(row, request, data))
    if row.name in _CAPTIONED_AT_ONCE and _json.is_object(data):
        return HandlerResult({"data": {"text": data["text"]}, "token": data.get("token")})
    if callback and _json.is_object(data):  # of a video that was added
        status = str(data.get("videoStatus", "PARSE"))
        body = callbacks.video_indexed(str(data["videoNo"]), status)
        return HandlerResult(data, callback=_callback(request, body))
    return HandlerResult(data)


def _submitted(request: HandlerRequest, caption: dict[str, object]) -> HandlerResult:
    task_id = str(uuid.uuid4())
    tokens = cast("Mapping[str, int]", _spelt(caption.get("tokens") or {}, {}))
    body = callbacks.caption_done(task_id, str(caption["text"]), tokens)
    return HandlerResult({"task_id": task_id}, callback=_callback(request, body))


def _callback(request: HandlerRequest, body: dict[str, object]) -> Callback:
    url = request.text("callback")
    request.context.callbacks.check(url)

    async def result() -> dict[str, object]:
        return body

    return Callback(url, result)


def _page(row: Operation[Any], request: HandlerRequest, items: list[object]) -> object:
    """Return a list in the layout of its operation: some are pages."""
    total = str(len(items))
    match row.name:
        case operations.LIST_VIDEOS.name | operations.SEARCH_TRANSCRIPTS.name:
            size = request.integer("size") or request.integer("page_size")
            page = request.integer("page")
            numbers = {"current_page": page, "page_size": size, "total_count": total}
            return {"videos": items, **numbers}
        case operations.SEARCH_LIBRARY.name if request.text("search_type") == "BY_IMAGE":
            size = len(items)
            return {"item": items, "current_page": 0, "page_size": size, "total_count": total}
        case operations.GET_ASSET.name:
            return {"resource": items}
        case _:
            return items


def _spelt(value: object, spelling: Mapping[str, str]) -> object:
    match value:
        case _ if _json.is_object(value):
            return {spelling.get(name, name): _spelt(one, spelling) for name, one in value.items()}
        case _ if _json.is_array(value):
            return [_spelt(one, spelling) for one in value]
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return str(int(moment.timestamp() * 1000))
        case _:
            return value
