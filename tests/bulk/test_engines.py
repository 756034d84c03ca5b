"""The recipes for other engines: each runs tasks more than once, and nothing is paid for twice."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from memories_async.emulator import Emulator
from tests.bulk.conftest import MakeImages
from tests.ray.conftest import running_emulator

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "examples" / "engines"
NAMES = {
    "pool": "multiprocessing",
    "dask_cluster": "distributed",
    "celery_worker": "celery",
    "daft_rows": "daft",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_pays_once(name: str, images: MakeImages, tmp_path: Path) -> None:
    if importlib.util.find_spec(NAMES[name]) is None:
        pytest.fail(f"{NAMES[name]} is not installed: .ci/run does that")
    folder = images(20)
    with running_emulator() as emulator:
        for _ in range(2):
            done = run(name, folder, tmp_path, emulator)
            assert done.returncode == 0, done.stderr
            assert "20 done" in done.stdout, done.stdout + done.stderr
            if name == "celery_worker":  # a real worker, and results that came through its backend
                assert f"20 embeddings, {20 * 1408} numbers" in done.stdout
        paid = Counter(entry.files[0].sha256 for entry in emulator.ledger if entry.billed)
    assert len(paid) == 20
    assert set(paid.values()) == {1}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arguments", [[], ["nothing"]])
def test_a_recipe_without_images_tells_how_it_is_used(
    name: str, arguments: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(RECIPES / f"{name}.py"), *arguments],
        env=os.environ | {"MEMORIES_API_KEY": "key"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Usage: MEMORIES_API_KEY=… python {name}.py FOLDER")
    assert done.stderr.count("\n") == 1


def run(
    name: str, folder: Path, tmp_path: Path, emulator: Emulator
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "MEMORIES_API_KEY": "key",
        "MEMORIES_BASE_URL": emulator.url,
        "LEDGER": str(tmp_path / "once.ledger"),
    }
    return subprocess.run(
        [sys.executable, str(RECIPES / f"{name}.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
