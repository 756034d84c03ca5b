"""``--ray``: what is refused before anything is sent or a cluster started, and what it reads as."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memories_async.cli.checks import with_address
from memories_async.cli.exit_codes import Exit
from memories_async.emulator import Emulator

Run = Callable[..., int]


@pytest.fixture
def ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("tokens", "read"),
    [
        ("embed a --ray", "embed a --ray=local"),
        ("embed --ray a b", "embed --ray=local a b"),
        ("embed --ray auto a", "embed --ray auto a"),
        ("embed a --ray head:6379", "embed a --ray head:6379"),
        ("embed a --ray ray://head:10001", "embed a --ray ray://head:10001"),
        ("embed a --ray --json", "embed a --ray=local --json"),
        ("embed a --ray=auto", "embed a --ray=auto"),
        ("embed --ray -- --ray", "embed --ray=local -- --ray"),
    ],
)
def test_an_address_may_be_left_out(tokens: str, read: str) -> None:
    assert with_address(tokens.split()) == read.split()


def test_without_ray_one_line_says_what_to_install(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run("embed", images, "--ray") == Exit.USAGE
    said = capsys.readouterr().err
    assert "pip install 'memories-async[ray]'" in said
    assert said.count("\n") == 1
    assert run("jobs", "list", "--json") == Exit.DONE
    assert not capsys.readouterr().out, "a job was made"


@pytest.mark.usefixtures("ray_is_there")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--limiter", "redis://limits.internal"), "--limiter"),
        (("--limiter", "sqlite:limits"), "--limiter"),
    ],
)
def test_what_does_not_combine_is_named(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    named: str,
) -> None:
    assert run("embed", images, "--ray", *arguments) == Exit.USAGE
    said = capsys.readouterr().err
    assert named in said
    assert "--ray" in said
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_the_variable_of_the_limiter_is_refused_too(
    account: Emulator,
    run: Run,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEMORIES_LIMITER", "redis://limits.internal")
    assert run("embed", images, "--ray") == Exit.USAGE
    assert "MEMORIES_LIMITER" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_is_there")
def test_images_together_are_one_call(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = sorted(images.iterdir())
    asked = ("caption", *pictures, "--together", "-p", "What?", "--ray")
    assert run(*asked) == Exit.USAGE
    assert "--together" in capsys.readouterr().err
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_a_dry_run_needs_no_cluster(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", images, "--ray", "nowhere:1", "--dry-run", "--json") == Exit.DONE
    assert '"items": 5' in capsys.readouterr().out
    assert not list(account.ledger)


@pytest.mark.usefixtures("ray_is_there")
def test_a_job_that_is_done_needs_no_cluster(
    account: Emulator, run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", images, "--quiet") == Exit.DONE
    assert run("embed", images, "--quiet", "--ray", "nowhere:1") == Exit.DONE
    assert account.ledger.billed() == 5


def test_the_command_line_imports_no_ray() -> None:
    code = "import sys; from memories_async.cli import main; main(['embed', '--help']); "
    code += "sys.exit('ray' in sys.modules or 'memories_async.ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
