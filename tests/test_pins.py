"""What CI installs is pinned by hash, and is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PROJECT["dependency-groups"]
LISTS = {"all": ("test", "bench", "lint", "engines", "docs"), "tests": ("test",)}


def wanted(group: str) -> list[Requirement]:
    """Return what a group asks for, those that it includes and the package's own too."""
    found = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    for line in GROUPS[group]:
        if isinstance(line, dict):
            found += wanted(line["include-group"])
        elif (requirement := Requirement(line)).name == "memories-async":
            extras = PROJECT["project"]["optional-dependencies"]
            found += [Requirement(more) for extra in requirement.extras for more in extras[extra]]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("name", LISTS)
def test_what_is_asked_for_is_pinned(name: str) -> None:
    """Where this fails: ``bash .ci/pin``."""
    text = (ROOT / f".ci/requirements/{name}.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", text, re.MULTILINE)
    for requirement in (wish for group in LISTS[name] for wish in wanted(group)):
        versions = [version for pin, version in pins if pin == requirement.name.lower()]
        assert versions, f"{requirement} is not pinned"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_has_its_hashes(name: str) -> None:
    text = (ROOT / f".ci/requirements/{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n|^ +#.*\n", "", text, flags=re.MULTILINE))
    assert len(blocks) > 50
    for block in blocks:
        assert re.match(r"[a-z0-9][\w.-]*(\[[\w,-]+\])?==\S+.*\\\n    --hash=sha256:", block), block
