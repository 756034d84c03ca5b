"""Imports go down only, and nothing but the engine's connections knows aiohttp."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memories_async

ROOT = Path(memories_async.__file__).parent

# From the top to the bottom; a module may import from its own layer and from those below it.
LAYERS = (
    {"sync", "cli", "bulk", "callbacks", "emulator"},
    {"client"},
    {"captions", "library", "embeddings", "assets"},
    {"batches", "polling", "_engine"},
    {"limiters"},
    {"config", "progress", "fields"},
    {"operations"},
    {"media"},
    {"clock"},
    {"models"},
    {"errors"},
    {"_version"},
)
RANK = {room: number for number, layer in enumerate(LAYERS) for room in layer}
NAMESPACES = {"captions", "library", "embeddings", "assets"}

# The emulator and the client share the table; any other shared mistake would hide itself.
SHARED_WITH_THE_EMULATOR = {"operations", "_version"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, also_for_types: bool = True) -> Iterator[str]:
    """Yield the full name of everything that a module imports, at any depth of its code."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only and not also_for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                is_module = (ROOT.parent / below.replace(".", "/")).with_suffix(".py").exists()
                yield below if is_module else f"{node.module}"


def room(module: str) -> str | None:
    """Return the room of a module of ours: the first name below the package."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "memories_async" and rest else None


EACH_MODULE = pytest.mark.parametrize("path", modules(), ids=name_of)


@EACH_MODULE
def test_imports_go_down_only(path: Path) -> None:
    here = room(name_of(path))
    if here is None:
        return  # the package itself only lists names
    for imported in imports(path, also_for_types=False):
        there = room(imported)
        if there is None or there == here:
            continue
        assert RANK[there] >= RANK[here], f"{name_of(path)} imports {imported}"


@EACH_MODULE
def test_every_room_has_its_place(path: Path) -> None:
    assert room(name_of(path)) in {None, *RANK}


@EACH_MODULE
def test_only_the_engine_s_connections_name_aiohttp(path: Path) -> None:
    here = name_of(path)
    connections = {
        f"memories_async._engine.transport.{name}" for name in ("http", "payload", "sessions")
    }
    if room(here) in ("emulator", "callbacks") or here in connections:
        return
    for imported in imports(path):
        assert imported.partition(".")[0] not in ("aiohttp", "yarl"), here


@EACH_MODULE
def test_namespaces_know_the_engine_only_by_its_dispatcher(path: Path) -> None:
    if room(name_of(path)) in NAMESPACES:
        engine = {name for name in imports(path) if room(name) == "_engine"}
        assert engine <= {"memories_async._engine.dispatch"}
        assert not {name for name in imports(path, also_for_types=False) if room(name) == "_engine"}
        assert "asyncio" not in set(imports(path))


@EACH_MODULE
def test_the_emulator_imports_nothing_of_the_client(path: Path) -> None:
    if room(name_of(path)) == "emulator":
        ours = {room(imported) for imported in imports(path)}
        assert ours <= {None, "emulator", *SHARED_WITH_THE_EMULATOR}


@EACH_MODULE
def test_the_engine_knows_no_endpoint_by_name(path: Path) -> None:
    if room(name_of(path)) == "_engine":
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        rows = {"OPERATIONS"} | {
            name for name, value in vars(memories_async.operations).items() if _is_row(value)
        }
        assert not names & rows


def _is_row(value: object) -> bool:
    return isinstance(value, memories_async.operations.Operation)


@EACH_MODULE
def test_no_file_is_named_for_nothing(path: Path) -> None:
    assert path.stem not in {
        "utils",
        "util",
        "helpers",
        "helper",
        "base",
        "common",
        "manager",
        "misc",
    }
