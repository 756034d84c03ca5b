"""The export list is exact, and every public name says what it does, takes, returns and raises."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_origin

import attrs
import pytest

import memories_async
from memories_async import Memories, _exports
from memories_async.operations import OPERATIONS, PAGES, Service
from tests import sources
from tests.for_each import for_each


def test_the_export_list_is_exact_and_sorted() -> None:
    exported = memories_async.__all__
    assert exported == sorted(exported)
    assert len(set(exported)) == len(exported)
    assert {*_exports.__all__, "__version__"} == set(exported)
    assert set(exported) <= set(dir(memories_async))
    present = {
        name
        for name, value in vars(_exports).items()
        if not (name.startswith("_") or inspect.ismodule(value))
    }
    assert present == set(_exports.__all__)
    assert all(getattr(memories_async, name) is getattr(_exports, name) for name in present)
    with pytest.raises(AttributeError, match="no attribute 'Bogus'"):
        _ = memories_async.Bogus


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", memories_async.__version__)


@for_each({str(path): path for path in sources.MODULES})
def test_every_module_says_in_one_sentence_what_it_is_for(path: Path) -> None:
    doc = ast.get_docstring(sources.parsed(path))
    assert doc
    assert doc.partition("\n\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("name", ["memories_async", "memories_async.emulator"])
def test_every_exported_class_and_its_methods_have_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    for exported in module.__all__:
        value = getattr(module, exported)
        if get_origin(value) is not None:
            continue  # an alias: what it may be is all that there is to say
        if not inspect.isclass(value):
            assert inspect.getdoc(value), exported
            continue
        assert value.__doc__, exported
        for method, function in vars(value).items():
            if not method.startswith("_") and callable(getattr(value, method)):
                assert inspect.getdoc(getattr(value, method)), f"{exported}.{method} ({function})"


def namespaces() -> dict[str, object]:
    """Return captions, library, ... : the attributes of a client that have methods."""
    client = Memories("key", caption_key="key")
    names = [name for name in Memories.__annotations__ if not name.startswith("_")]
    return {name: getattr(client, name) for name in names}


def methods() -> Iterator[tuple[str, Callable[..., object]]]:
    for namespace, value in namespaces().items():
        for name, method in inspect.getmembers(value, callable):
            if not name.startswith("_"):
                yield f"{namespace}.{name}", method


METHODS = dict(methods())
EACH_METHOD = for_each({name: name for name in METHODS})


def section(name: str, title: str) -> str:
    """Return one section of a method's docstring, in Google's style."""
    doc = inspect.getdoc(METHODS[name]) or ""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)*)", doc, re.MULTILINE)
    return found[1] if found else ""


def shared(name: str) -> list[str]:
    """Return the arguments and errors that a method leaves to its class, which must say them."""
    doc = inspect.getdoc(METHODS[name]) or ""
    found = re.search(r"^Shared \(see ``(\w+)``\): ([\w, \n]+)\.$", doc, re.MULTILINE)
    if found is None:
        return []
    namespace = type(METHODS[name].__self__)  # type: ignore[attr-defined]  # a bound method
    assert namespace.__name__ == found[1]
    named = re.findall(r"\w+", found[2])
    for word in named:
        assert re.search(rf"^    {word}: \S", inspect.getdoc(namespace) or "", re.MULTILINE), word
    return named


def test_there_are_methods() -> None:
    assert {"captions.image", "library.add_images", "embeddings.image"} <= set(METHODS)


@EACH_METHOD
def test_a_method_says_what_it_takes_returns_and_raises(name: str) -> None:
    doc = inspect.getdoc(METHODS[name]) or ""
    assert re.match(r"\S.*[.;:]", doc.splitlines()[0]), "the first line says what it does"
    parameters = list(inspect.signature(METHODS[name]).parameters)
    described = re.findall(r"^    (\w+): \S", section(name, "Args"), re.MULTILINE)
    assert described == [word for word in parameters if word in described]
    left = [word for word in shared(name) if word in parameters]
    assert sorted(described + left) == sorted(parameters)
    nothing = inspect.signature(METHODS[name]).return_annotation == "None"
    assert nothing or section(name, "Returns").strip()


@EACH_METHOD
def test_a_method_raises_exceptions_of_ours(name: str) -> None:
    raised = re.findall(r"^    (\w+): \S", section(name, "Raises"), re.MULTILINE)
    raised += [word for word in shared(name) if word[0].isupper()]
    assert raised
    for error in raised:
        assert issubclass(getattr(memories_async, error), memories_async.MemoriesError)


@EACH_METHOD
def test_a_method_names_its_endpoint_and_page(name: str) -> None:
    doc = inspect.getdoc(METHODS[name]) or ""
    source = re.search(r"^Source: (.*)\Z", doc, re.MULTILINE | re.DOTALL)
    assert source is not None
    assert re.search(r"\(https://api-tools\.memories\.ai/\S+\)\.$", source[1])
    method = re.match(r"(GET|POST) ", source[1])
    assert method is not None
    rows = [row for row in OPERATIONS if row.call == name and row.service is not Service.STORAGE]
    for row in rows:
        assert row.method == method[1]
        assert row.path in source[1] or row.path.rpartition("/")[2] in source[1]
    assert not rows or any(f"({PAGES}{row.page})" in source[1] for row in rows)


@EACH_METHOD
def test_a_method_s_parameters_are_spelled_out_and_typed(name: str) -> None:
    signature = inspect.signature(METHODS[name])
    for parameter in signature.parameters.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert parameter.annotation is not parameter.empty
        assert "Any" not in re.findall(r"\w+", str(parameter.annotation))
    assert signature.return_annotation is not signature.empty
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 3
    assert "options" in signature.parameters, "every call takes its options in one place"


def test_constructing_a_client_is_documented() -> None:
    parameters = list(inspect.signature(Memories).parameters)
    described = re.findall(r"^    (\w+): \S", inspect.getdoc(Memories) or "", re.MULTILINE)
    assert [name for name in described if name in parameters] == parameters


def test_results_are_frozen_and_describe_their_fields() -> None:
    for name in memories_async.__all__:
        value = getattr(memories_async, name)
        if not (inspect.isclass(value) and attrs.has(value)):
            continue
        doc = inspect.getdoc(value) or ""
        for field in attrs.fields(value):
            if not field.inherited and name not in ("TokenUsage", "Caption"):
                assert re.search(rf"^    {field.name}: \S", doc, re.MULTILINE), (
                    f"{name}.{field.name}"
                )
        required = [field.name for field in attrs.fields(value) if field.default is attrs.NOTHING]
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value.__new__(value), required[0] if required else "x", 1)
