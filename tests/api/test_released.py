"""The public API changes only where the changelog says so."""

from __future__ import annotations

import re
from pathlib import Path

from tests.api.signatures import RELEASED, as_text, changed, from_text, public_api

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def unmentioned(names: set[str], changelog: str) -> set[str]:
    """Return the changed names that the unreleased part of a changelog does not say.

    A class, method or argument is mentioned by its last name, between backquotes or in code.
    """
    unreleased = re.split(r"^## \[", changelog, flags=re.MULTILINE)[1]
    mentioned = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", unreleased))))
    return {name for name in names if not mentioned & set(name.split(".")[-2:])}


def test_a_change_since_the_release_has_its_line_in_the_changelog() -> None:
    differences = changed(from_text(RELEASED.read_text(encoding="utf-8")), public_api())
    assert not unmentioned(differences, CHANGELOG), "see python -m tests.api.signatures"


def test_a_planted_change_is_found() -> None:
    api = public_api()
    name = "memories_async.Memories.captions.video"
    assert name in api
    planted = {**api, name: "(self) -> None", "memories_async.Planted": "class()"}
    found = changed(api, planted)
    assert found == {name, "memories_async.Planted"}
    nothing = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n- `video` and `Planted`\n"
    assert unmentioned(found, nothing) == found
    said = "## [Unreleased]\n- `captions.video` takes less; `Planted` is new.\n## [0.1.0]\n"
    assert not unmentioned(found, said)


def test_text_and_back() -> None:
    assert from_text(as_text(public_api())) == public_api()
