"""Every README's examples run as they stand, in processes of their own, and type-checkers agree."""

from __future__ import annotations

import functools
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from memories_async.emulator import Emulator
from tests import forks, suites
from tests.callbacks.conftest import free_port
from tests.emulator.films import write_three_shots
from tests.readmes import ADDRESS, BUCKET, EXAMPLES, PICTURE, RAY, README, READMES, ROOT, Example

MEDIA = ROOT / "examples" / "media"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small film: each video that an example sends is watched by the emulator."""
    return write_three_shots(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture
def folder(tmp_path: Path, film: Path) -> Path:
    (tmp_path / "photos").mkdir()
    shutil.copy(film, tmp_path / "holiday.mp4")
    for name in ("photo.jpg", "one.jpg", "two.jpg", "photos/one.jpg"):
        shutil.copy(MEDIA / "frame-1.3s.jpg", tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def picture() -> Iterator[str]:
    """Return the address of a picture that is served here."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(MEDIA))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/frame-1.3s.jpg"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(
            example,
            id=example.name,
            # Ray is in the extras that .ci/run installs for the slow tests.
            marks=[pytest.mark.slow]
            if example.setting is RAY or not example.name.startswith("README.md")
            else [],
        )
        for example in EXAMPLES
    ],
)
def test_an_example_runs(example: Example, folder: Path, picture: str) -> None:
    port = free_port()
    there = {ADDRESS: f"http://127.0.0.1:{port}/memories", BUCKET: "", PICTURE: picture}
    program = example.program
    for place, instead in there.items():
        program = program.replace(place, instead)
    if example.setting is RAY:
        paths = pyarrow.table({"path": [str(folder / "photo.jpg")]})
        parquet.write_table(paths, folder / "list.parquet")
    file = folder / "test_example.py"
    file.write_text(program, encoding="utf-8")
    with Emulator() as emulator:
        environment = forks.least(
            HOME=str(folder),
            MEMORIES_API_KEY="any-key",
            MEMORIES_CAPTION_KEY="any-caption-key",
            MEMORIES_BASE_URL=emulator.url,
            PORT=str(port),
            PATH="",
        )
        if example.setting.tests:
            options = ("-o", "asyncio_mode=auto", str(file))
            done = suites.run(*options, folder=folder, environment=environment)
        else:
            done = forks.completed([str(file)], cwd=folder, env=environment)
    assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"


# The checkers are in the group "lint", which .ci/run installs for the slow tests.
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_both_type_checkers_agree_with_every_example(checker: str, tmp_path: Path) -> None:
    names = [f"example_{number}.py" for number in range(len(EXAMPLES))]
    for name, example in zip(names, EXAMPLES, strict=True):
        (tmp_path / name).write_text(f"# {example.name}\n{example.program}", encoding="utf-8")
    strict = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(ROOT)],
        # An example names a result that it does nothing with.
        "reportUnusedVariable": "none",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(strict))
    command = {
        "mypy": ["mypy", "--strict", "--no-incremental", *names],
        "pyright": ["pyright", "--project", str(tmp_path), "--pythonpath", sys.executable],
    }[checker]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_two_headings_have_one_command_each() -> None:
    for heading, command in (("Run it", "sh examples/run"), ("Test it", "sh tests/run")):
        section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
        assert re.findall(r"^```sh\n(.*?)\n```", section, re.MULTILINE | re.DOTALL) == [command]


def test_a_package_index_shows_the_readme_without_links_into_this_repository() -> None:
    shown = runpy.run_path(str(ROOT / ".ci" / "long_description.py"))
    text: str = shown["without_relative_links"](README)
    assert set(re.findall(r"\]\(([^)]*)\)", text)) == {"https://memories.ai"}
    assert "![" in README
    assert "![" not in text
    assert "[cli,parquet]" in text  # what is in brackets and no link stays
    assert "[bulk jobs](" in README
    assert "pay for nothing twice: bulk jobs." in text


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    text, folder = READMES[name], (ROOT / name).parent
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (folder / target).exists(), target
