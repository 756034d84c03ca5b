"""The package's own code: each module read and parsed once, for all tests that look at it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import memories_async

PACKAGE = Path(memories_async.__file__).parent
MODULES = tuple(sorted(PACKAGE.rglob("*.py")))


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return a module's syntax tree, which nobody changes."""
    return ast.parse(path.read_text())
