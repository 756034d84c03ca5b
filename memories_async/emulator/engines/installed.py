"""Which engine the installed packages allow."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memories_async.emulator.engines.protocol import Engine

_PICTURE_PACKAGES = ("PIL", "av", "numpy")


def default_engine() -> Engine:
    """Return the engine that the installed packages allow: pixels, else hashes."""
    if all(importlib.util.find_spec(package) for package in _PICTURE_PACKAGES):
        from memories_async.emulator.engines.pixels import PixelEngine

        return PixelEngine()
    from memories_async.emulator.engines.hashing import HashEngine

    return HashEngine()
