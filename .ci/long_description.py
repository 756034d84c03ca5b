"""The README as a package index shows it, where links to files of this repository lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = r"\((?!https?:)[^)]*\)"


def without_relative_links(text: str) -> str:
    """Return Markdown in which a link to a file is its words, and a picture in a file is gone.

    Args:
        text: The README.
    """
    text = re.sub(rf"^!\[[^\]]*\]{_RELATIVE}\n\n?", "", text, flags=re.MULTILINE)
    return re.sub(rf"\[([^\]]+)\]{_RELATIVE}", r"\1", text)


class LongDescription(MetadataHookInterface):
    """Gives the package's metadata its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the readme to the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": without_relative_links(text),
        }
