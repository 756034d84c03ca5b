"""What the service posts to a callback address."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def caption_done(task_id: str, text: str, token: Mapping[str, int]) -> dict[str, object]:
    """Return the documented body of a finished caption."""
    return {"status": 0, "task_id": task_id, "data": {"text": text, "token": token}}


def caption_failed(task_id: str) -> dict[str, object]:
    """Return the body of a failed caption: the service sends no reason."""
    return {"status": -1, "task_id": task_id, "data": None, "token": None}


def video_indexed(video_no: str, status: str) -> dict[str, object]:
    """Return the body that follows the indexing of a library video."""
    return {"videoNo": video_no, "status": status}
