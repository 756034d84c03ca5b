"""Which request is which operation: the table's own paths and layouts, and those seen besides."""

from __future__ import annotations

import collections
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from memories_async import operations
from memories_async.operations import OPERATIONS, Body, Operation, Service

SIGNED_PATH = "/storage/{asset_id}"
"""Where signed addresses lead: in reality another company's host."""

HEALTH_PATH = "/health"
"""Where whoever starts the emulator as a service asks whether it is ready."""

IMAGE_PATH = "/storage/images/{image_id}"
"""Where the addresses of library images lead."""


class Layout(enum.Enum):
    """How a body comes that the table does not know."""

    FILE = "the body is the file"


@attrs.frozen
class Route:
    """One way to an operation.

    Attributes:
        row: The operation.
        layout: How its fields and files come.
    """

    row: Operation[Any]
    layout: Body | Layout

    def suits(self, content_type: str) -> bool:
        """Return whether a content type is the one of the layout."""
        match self.layout:
            case Body.QUERY | Layout.FILE:
                return True
            case Body.JSON | Body.JSON_ARRAY:
                return content_type == "application/json"
            case Body.FORM:
                return content_type == "application/x-www-form-urlencoded"
            case Body.REQ_AND_FILES | Body.FIELDS_AND_FILES:
                return content_type == "multipart/form-data"


# What public clients send and no current page describes. How the service itself reacts to the
# first two is not known; the older names of two calls are those of its documentation of 2025.
_UNDOCUMENTED = (
    ("POST", operations.ADD_VIDEO_URL.path, Route(operations.ADD_VIDEO_URL, Body.JSON)),
    ("POST", operations.ADD_VIDEO_URL.path, Route(operations.ADD_VIDEO_URL, Body.FIELDS_AND_FILES)),
    (
        "GET",
        "/serve/api/v1/get_video_transcription",
        Route(operations.GET_AUDIO_TRANSCRIPT, Body.QUERY),
    ),
    (
        "GET",
        "/serve/api/v1/get_private_video_details",
        Route(operations.GET_VIDEO, Body.QUERY),
    ),
    # An index names the page "Upload File Using Signed URL": storage hosts take a PUT.
    ("PUT", SIGNED_PATH, Route(operations.SEND_SIGNED, Layout.FILE)),
)


def routes() -> Mapping[tuple[str, str], Sequence[Route]]:
    """Return the ways in by method and path."""
    found: dict[tuple[str, str], list[Route]] = collections.defaultdict(list)
    for row in OPERATIONS:
        path = SIGNED_PATH if row.service is Service.STORAGE else row.path
        found[row.method, path].append(Route(row, row.body))
        if row.service is Service.VISUAL_SEARCH and row.body is Body.FIELDS_AND_FILES:
            # So a form comes without its file: the refusal names the file that is missing.
            found[row.method, path].append(Route(row, Body.FORM))
    for method, path, route in _UNDOCUMENTED:
        found[method, path].append(route)
    return found


def service_of(path: str) -> Service | None:
    """Return the service that a path belongs to, whether it knows the path or not."""
    for prefix, service in (
        ("/v1/understand/", Service.CAPTION),
        ("/serve/api/v1/", Service.VISUAL_SEARCH),
        ("/serve/api/v2/", Service.VISUAL_INTELLIGENCE),
    ):
        if path.startswith(prefix):
            return service
    return None
