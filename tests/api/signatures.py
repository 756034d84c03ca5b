"""What users can name: every public class, method, field and function with its signature, as text.

``python -m tests.api.signatures --write`` records it as that of the version that is being released.
"""

from __future__ import annotations

import argparse
import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs

RELEASED = Path(__file__).with_name("released.txt")

# Where users import from. Optional packages are installed wherever the tests run.
PUBLIC = (
    "memories_async",
    "memories_async.sync",
    "memories_async.limiters",
    "memories_async.progress",
    "memories_async.callbacks",
    "memories_async.bulk",
    "memories_async.observe",
    "memories_async.emulator",
    "memories_async.testing",
)

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def public_api() -> dict[str, str]:
    """Return every public name with what a caller relies on."""
    return dict(sorted(_names()))


def _names() -> Iterator[tuple[str, str]]:
    for name in PUBLIC:
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", None) or _defined_in(module):
            if exported != "__version__":
                yield from _describe(f"{name}.{exported}", getattr(module, exported))


def _defined_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _describe(name: str, value: object) -> Iterator[tuple[str, str]]:
    if not inspect.isclass(value):
        yield name, _signature(value) if callable(value) else type(value).__name__
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield name, f"class({bases})"
    if issubclass(value, enum.Enum):
        yield from ((f"{name}.{member.name}", repr(member.value)) for member in value)
        return
    if not issubclass(value, BaseException) and "__init__" in vars(value):
        yield f"{name}.__init__", _signature(value.__init__)
    if attrs.has(value):
        fields = attrs.fields(value)
        yield from ((f"{name}.{field.name}", f"field: {field.type}") for field in fields)
    else:
        annotations = inspect.get_annotations(value)
        for field, kind in annotations.items():
            if not field.startswith("_"):
                yield f"{name}.{field}", f"attribute: {kind}"
                yield from _namespace(f"{name}.{field}", inspect.getmodule(value), kind)
    for method, function in vars(value).items():
        if not method.startswith("_") and (callable(function) or isinstance(function, property)):
            yield f"{name}.{method}", _signature(function)


def _namespace(name: str, module: object, kind: object) -> Iterator[tuple[str, str]]:
    value = getattr(module, str(kind), None)
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if not method.startswith("_") and callable(function):
                yield f"{name}.{method}", _signature(function)


def _signature(value: object) -> str:
    if isinstance(value, property):
        return "property"
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    try:
        return _ADDRESS.sub("", str(inspect.signature(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "()"


def as_text(api: dict[str, str]) -> str:
    """Write one line for each name."""
    return "".join(f"{name} {what}\n" for name, what in api.items())


def from_text(text: str) -> dict[str, str]:
    """Read what ``as_text`` wrote."""
    return dict(line.split(" ", 1) for line in text.splitlines() if line)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the names that came, went or have another signature."""
    return {name for name in before | after if before.get(name) != after.get(name)}


def main() -> None:
    """Show what has changed since the release, or record a release."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="this is what is being released")
    if parser.parse_args().write:
        RELEASED.write_text(as_text(public_api()), encoding="utf-8")
        return
    before, after = from_text(RELEASED.read_text(encoding="utf-8")), public_api()
    for name in sorted(changed(before, after)):
        sys.stdout.write(f"{name}\n  was {before.get(name)}\n  is  {after.get(name)}\n")


if __name__ == "__main__":
    main()
