"""100,000 images at one call a second: 28 hours in some minutes, in constant memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEBIBYTE = 1 << 20


def embed(folder: Path, count: int) -> dict[str, object]:
    """Return what ``many_images`` prints, from a process of its own."""
    arguments = [sys.executable, "-m", "tests.bulk.many_images", str(folder), str(count)]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed))


def assert_ledger_equals_journal(seen: dict[str, object], count: int) -> None:
    counts, faults = seen["counts"], seen["faults"]
    assert isinstance(counts, dict)
    assert isinstance(faults, dict)
    assert seen["differences"] == 0
    assert seen["stopped"] is None
    assert sum(counts.values()) == count
    assert counts["unknown"] == faults.get("lost", 0) + faults.get("never came", 0)
    assert counts["failed"] == faults.get("refused", 0)
    assert counts["done"] == count - counts["unknown"] - counts["failed"]
    assert seen["billed"] == counts["done"] + faults.get("lost", 0)


def assert_each_is_counted_once(seen: dict[str, object]) -> None:
    """One call a second, no more, and no less but for what the service's throttles cost."""
    requests, seconds = seen["requests"], seen["virtual_seconds"]
    assert isinstance(requests, int)
    assert isinstance(seconds, float)
    assert requests - 1 <= seconds <= 1.05 * requests + 10


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_some_images_at_one_call_a_second(tmp_path: Path, count: int) -> None:
    seen = embed(tmp_path, count)
    assert_ledger_equals_journal(seen, count)
    assert_each_is_counted_once(seen)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_a_hundred_thousand_images_at_one_call_a_second(tmp_path: Path) -> None:
    seen = embed(tmp_path, 100_000)
    assert_ledger_equals_journal(seen, 100_000)
    assert isinstance(seen["peak_memory"], int)
    assert_each_is_counted_once(seen)
    assert seen["peak_memory"] < 100 * MEBIBYTE
