"""What the service posts, in every shape it has been seen in; no I/O.

A caption's body is ``{status: 0, task_id, data: {text, token}}``. The token may stand beside
``data`` instead of in it, the text may be called ``response``, and a failed task has status -1 and
no data. An indexed video's is ``{videoNo, status}``, or ``video_no``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeGuard, TypeVar

import attrs

from memories_async import _json
from memories_async._engine.convert import structure
from memories_async.callbacks.tokens import CallbackKind
from memories_async.decoding import read_json
from memories_async.errors import NotJson, UnexpectedShape
from memories_async.models import Caption, Video

T_co = TypeVar("T_co", covariant=True)

DONE, FAILED = "0", "-1"


@attrs.frozen
class CallbackPayload(Generic[T_co]):
    """What a callback says.

    Attributes:
        subject: The task or video that the body names.
        final: Whether nothing more is to come; a status that nobody knows is not final.
        result: The result; None for a caption that failed.
    """

    subject: str
    final: bool
    result: T_co | None


def read_caption(body: bytes) -> CallbackPayload[Caption]:
    """Read the callback of an asynchronous caption.

    Raises:
        NotJson: It is not JSON.
        UnexpectedShape: It names no task, or says that it is done and holds no text.

    Source: the callback of POST /v1/understand/upload, uploadFile
    (https://api-tools.memories.ai/platform/video-caption).
    """
    fields = _object(body)
    task_id = _identifier(fields, "task_id", "taskId")
    status = _status(fields.get("status", DONE))
    data = fields.get("data")
    if status == FAILED or (status == DONE and data is None):
        return CallbackPayload(task_id, final=True, result=None)
    if status != DONE:
        return CallbackPayload(task_id, final=False, result=None)
    if not _is_object(data):
        raise UnexpectedShape(f"the callback's data is no object: {_shown(body)}")
    beside = {name: value for name, value in fields.items() if name not in _ENVELOPE}
    within = {name: value for name, value in data.items() if name not in _CAPTION}
    text = data.get("text") if data.get("text") is not None else data.get("response")
    tokens = next(filter(_is_object, (data.get("token"), fields.get("token"))), None)
    caption = structure({**beside, **within, "text": text, "token": tokens}, Caption)
    return CallbackPayload(task_id, final=True, result=caption)


def read_video(body: bytes) -> CallbackPayload[Video]:
    """Read the callback that follows the indexing of a library video.

    Raises:
        NotJson: It is not JSON.
        UnexpectedShape: It names no video.

    Source: the callback of POST /serve/api/v1/upload
    (https://api-tools.memories.ai/visual-search/upload-video-from-file).
    """
    video = structure(_object(body), Video)
    return CallbackPayload(video.video_no, final=video.searchable or video.failed, result=video)


READERS: Mapping[
    CallbackKind, Callable[[bytes], CallbackPayload[Caption] | CallbackPayload[Video]]
] = {
    CallbackKind.CAPTION: read_caption,
    CallbackKind.VIDEO: read_video,
}

_ENVELOPE = frozenset({"status", "task_id", "taskId", "data", "token"})
_CAPTION = frozenset({"text", "response", "token"})


def _object(body: bytes) -> dict[str, object]:
    try:
        fields = read_json(body)
    except _json.JSONDecodeError:
        raise NotJson(f"the callback is not JSON: {_shown(body)}") from None
    if not _is_object(fields):
        raise UnexpectedShape(f"the callback is no JSON object: {_shown(body)}")
    return fields


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _identifier(fields: Mapping[str, object], *names: str) -> str:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    raise UnexpectedShape(f"the callback has no {names[0]}")


def _status(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int) else ""


def _shown(body: bytes) -> str:
    """Return the beginning as a literal: whoever posts it may put anything in it."""
    return repr(body[:200])
