"""Imports go down only, in no circle; each room knows what it may and is named for what it does."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import memories_async
from memories_async.operations import Operation
from tests import sources

ROOT = sources.PACKAGE

# From the top to the bottom; a module may import from its own layer and from those below it.
LAYERS = (
    {"__main__"},
    {"testing"},
    {"sync", "cli", "bulk", "callbacks", "emulator", "ray"},
    {"_exports"},
    {"client"},
    {"captions", "library", "embeddings", "assets"},
    {"batches", "polling", "_engine"},
    {"limiters", "observe"},
    {"addresses", "config", "progress", "fields"},
    {"request_limits", "secret"},
    {"operations"},
    {"media"},
    {"clock"},
    {"models"},
    {"results"},
    {"decoding"},
    {"vectors"},
    {"sqlite", "_lines", "_folders"},
    {"checks"},
    {"errors"},
    {"_version", "_deprecation", "_extras", "_json"},
)
RANK = {room: number for number, layer in enumerate(LAYERS) for room in layer}
NAMESPACES = {"captions", "library", "embeddings", "assets"}

# The emulator and the client share the table; any other shared mistake would hide itself. JSON is
# orjson's, or the same by the standard library, which a test compares with orjson; how arguments
# are checked says nothing of the service.
SHARED_WITH_THE_EMULATOR = {"operations", "_version", "_json", "checks"}

NAMED_FOR_NOTHING = {"utils", "util", "helpers", "helper", "base", "common", "manager", "misc"}
MODULES_IN_A_FOLDER = 15
"""Some dozen: more than that are two things. The top of the package is what users call."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sources.MODULES}


@functools.cache
def imports(module: str, *, also_for_types: bool = True) -> tuple[str, ...]:
    """Return the full name of everything that a module imports, at any depth of its code."""
    return tuple(_imports(sources.parsed(MODULES[module]), also_for_types))


def _imports(tree: ast.Module, also_for_types: bool) -> Iterator[str]:
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
            assert node.level == 0, "relative import"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in MODULES else f"{node.module}"


def room(module: str) -> str | None:
    """Return the room of a module of ours: the first name below the package."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "memories_async" and rest else None


def in_room(*rooms: str) -> Iterator[str]:
    return (name for name in MODULES if room(name) in rooms)


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in MODULES} - {None} <= set(RANK)


def test_imports_go_down_only() -> None:
    upwards = [
        f"{name} imports {imported}"
        for name in MODULES
        for imported in imports(name, also_for_types=False)
        # the package itself only lists names
        if (here := room(name)) and (there := room(imported)) and RANK[there] < RANK[here]
    ]
    assert not upwards


def test_a_room_says_what_it_may_import() -> None:
    """As ``May import client and below``: below the last that is named."""
    guilty = []
    for here in sorted({room(name) for name in MODULES} & {path.name for path in ROOT.iterdir()}):
        text = ast.get_docstring(sources.parsed(MODULES[f"memories_async.{here}"])) or ""
        said = re.search(r"^May import (.+)\.$", text, re.MULTILINE)
        words = re.findall(r"\w+", said[1] if said else "")
        named = [word for word in words if word in RANK]
        below = RANK[named[-1]] if "below" in words else len(LAYERS)
        guilty += [
            f"{name} imports {imported}"
            for name in in_room(here)
            for imported in imports(name)
            if (there := room(imported)) not in {None, here, *named} and RANK[there] <= below
        ]
        guilty += [] if said else [f"{here} does not say it"]
    assert not guilty


def test_no_circle_of_imports() -> None:
    below = {
        name: {there for there in imports(name, also_for_types=False) if there in MODULES}
        for name in MODULES
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for there in below[name] - {name}:
                visit(there, (*path, name))
            done.add(name)

    for name in below:
        if name != "memories_async":
            visit(name, ())


def test_only_the_transport_names_aiohttp() -> None:
    allowed = {"emulator", "callbacks", "testing"}
    guilty = [
        name
        for name in MODULES
        if room(name) not in allowed and not name.startswith("memories_async._engine.transport")
        for imported in imports(name)
        if imported.partition(".")[0] in ("aiohttp", "yarl")
    ]
    assert not guilty


def test_namespaces_know_the_engine_only_by_its_dispatcher() -> None:
    for name in in_room(*NAMESPACES):
        engine = {imported for imported in imports(name) if room(imported) == "_engine"}
        assert engine <= {"memories_async._engine.dispatch"}, name
        eager = set(imports(name, also_for_types=False))
        assert not {imported for imported in eager if room(imported) == "_engine"}, name
        assert "asyncio" not in set(imports(name)), name


def test_the_emulator_imports_nothing_of_the_client() -> None:
    for name in in_room("emulator"):
        ours = {room(imported) for imported in imports(name)}
        assert ours <= {None, "emulator", *SHARED_WITH_THE_EMULATOR}, name


def test_the_engine_knows_no_endpoint_by_name() -> None:
    table = vars(memories_async.operations)
    rows = {"OPERATIONS"} | {name for name, row in table.items() if isinstance(row, Operation)}
    for module in in_room("_engine"):
        tree = sources.parsed(MODULES[module])
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & rows, module


def test_no_module_is_named_for_nothing() -> None:
    assert not {name for name in MODULES if name.rpartition(".")[2] in NAMED_FOR_NOTHING}


def test_no_folder_holds_more_than_some_dozen_modules() -> None:
    for folder in {path.parent for path in sources.MODULES} - {ROOT}:
        modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= MODULES_IN_A_FOLDER, f"{folder}: {len(modules)}"


def test_one_public_class_for_each_name() -> None:
    """A search for a name finds one definition."""
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in sources.parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    generated = ("_client", "_inbox", "_job")  # the same names without await
    twins = {f"memories_async.sync.{name}" for name in generated}
    several = {name: modules for name, modules in places.items() if len(set(modules) - twins) > 1}
    assert not several
