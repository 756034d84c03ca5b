"""What the service allows of the parameters of its calls, by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from memories_async.checks.kinds import Limit, Problem, any_text_problem, is_blank, shown
from memories_async.checks.parameters import Mark, at_most, between

LONGEST_CAMERA_MODEL = 200
LONGEST_CALLBACK = 299
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


EFFORTS = frozenset(level for number in (-1, *range(1, 11)) for level in (number, str(number)))


def efforts(name: str, value: int | str) -> Problem:
    """Refuse what is no effort: the page says "Level 1-10", and -1 is the model's own choice."""
    if value in EFFORTS:
        return None
    return f"{name} is 1 to 10, or -1 for the model's own choice, not {shown(value)}"


def written_as_documented(name: str, value: datetime | str) -> Problem:
    """Refuse a time that the service would refuse."""
    if isinstance(value, datetime):
        return a_real_moment(name, value)
    try:
        # strptime takes 2025-9-7 as well.
        exact = datetime.strptime(value, TIME_FORMAT).strftime(TIME_FORMAT) == value
    except ValueError:
        exact = False
    return None if exact else f"{name} is yyyy-MM-dd HH:mm:ss, not {shown(value)}"


def a_real_moment(name: str, value: datetime) -> Problem:
    """Refuse a time that cannot be converted: an offset would lead out of the calendar."""
    return None if 1 < value.year < 9999 else f"{name} is {value}; a moment of some year is wanted"


def an_identifier(name: str, value: str) -> Problem:
    """Refuse what identifies nothing, or means another place in a path."""
    if value.isidentifier():
        return None  # as nearly all are
    if value.strip() in (".", ".."):
        return f"{shown(value)} is no {name}: in a path it means another place"
    if is_blank(value) or any_text_problem(name, value):
        return None  # said of every text
    if value != value.strip() or not value.isprintable():
        return (
            f"{name} is {shown(value)}; there are spaces or unprintable characters in or around it"
        )
    return None


def identifiers(most: float = math.inf) -> Limit:
    """Refuse too many identifiers, and what is none."""

    def problem(name: str, values: Sequence[object]) -> Problem:
        if len(values) > most:
            return at_most(int(most))(name, values)
        for index, value in enumerate(values):
            if isinstance(value, str) and (bad := an_identifier(f"{name}[{index}]", value)):
                return bad
        return None

    return problem


LIMITS: Mapping[str, Mark] = {
    "asset_id": an_identifier,
    "camera_model": at_most(LONGEST_CAMERA_MODEL),
    "concurrency": between(1, math.inf),
    "datetime_taken": written_as_documented,
    "dimensionality": between(1, 2**31 - 1),
    "latitude": between(-90, 90),
    "longitude": between(-180, 180),
    "page_size": between(1, math.inf),
    "persons": at_most(5),
    "reasoning_effort": efforts,
    "similarity": between(0, 1),
    "taken_since": a_real_moment,
    "top_k": between(1, 1000),
    "unique_id": an_identifier,
    "video_no": an_identifier,
    "video_nos": identifiers(),
    "within": between(0, math.inf),
    "library.add_images.tags": at_most(50),
    "library.add_video.callback": at_most(LONGEST_CALLBACK),
    "library.add_video.tags": at_most(20),
    "library.search.video_nos": identifiers(100),
    "library.search_transcripts.page_size": between(1, 500),
}
"""What more is asked of a parameter: in every method, or in the one that is named before it."""

TOGETHER = ("latitude", "longitude")
