"""What a source on the command line is: an image or a video, one thing or many."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from memories_async.errors import ConfigurationError, MediaError
from memories_async.formats import HEAD_SIZE, by_extension, detect
from memories_async.media import is_url

Kind: TypeAlias = Literal["image", "video"]


def kind_of(source: str) -> Kind:
    """Tell an image from a video by its extension, or by its first bytes if it is a file.

    Raises:
        ConfigurationError: Neither tells.
        MediaError: The file cannot be read.
    """
    name = urlsplit(source).path if is_url(source) else source
    format = by_extension(os.path.splitext(name)[1])
    if format is None and not is_url(source):
        try:
            with open(source, "rb") as file:
                format = detect(file.read(HEAD_SIZE))
        except OSError as error:
            raise MediaError(f"{source}: {error.strerror}") from None
    if format is None:
        raise ConfigurationError(f"{source} may be an image or a video: say --as image or --as video")
    return "image" if format.content_type.startswith("image/") else "video"
