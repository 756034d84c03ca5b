"""What the tests of inspection ask: what is refused, and what of a file would be sent."""

from __future__ import annotations

import pytest

from memories_async import MediaError
from memories_async.media.inspect import inspect_source
from memories_async.media.readers import Attachment, read_all
from memories_async.media.rules import CAPTION_IMAGE, MediaRule

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)


def refused(source: object, rule: MediaRule = CAPTION_IMAGE) -> MediaError:
    with pytest.raises(MediaError) as caught:
        inspect_source(source, rule)  # type: ignore[arg-type]  # also what is no source
    return caught.value


def described(attachment: Attachment) -> tuple[str, str, int | None, bytes]:
    return attachment.name, attachment.content_type, attachment.size, read_all(attachment)
