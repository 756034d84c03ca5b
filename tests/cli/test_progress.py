"""What is shown of work under way: at any width from 60 columns on, and where nobody draws."""

from __future__ import annotations

import io
import re
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from memories_async.bulk import Counts, Event, Stop, StopReason
from memories_async.cli.terminal.console import Console, width_of
from memories_async.cli.terminal.progress import coloured, cut, duration, line, standing
from memories_async.emulator import Emulator, InjectedFault
from tests.cli.conftest import PNG
from tests.cli.terminal import Terminal

WIDTHS = pytest.mark.parametrize("width", [60, 80, 120, 200])


def event(**fields: object) -> Event:
    counts = Counts(planned=100, sending=8, done=190, failed=1, unknown=1)
    known = {
        "name": "item",
        "counts": counts,
        "bytes_sent": 123_456_789,
        "bytes_planned": 987_654_321,
        "cost": Decimal("0.0190"),
        "seconds": 60.0,
        "remaining": 4000.0,
    }
    return Event(**{**known, **fields})


@WIDTHS
@pytest.mark.parametrize(
    "name", ["embed-images-0123abcd", "/a/very/long/" + "path/" * 40, "東京" * 20]
)
@pytest.mark.parametrize("ascii", [True, False])
def test_bar_percentage_and_time_left_at_every_width(width: int, name: str, ascii: bool):
    text = line(name, *standing(event(), 0, 0.0), width, ascii=ascii)
    assert width_of(text) < width
    assert " 64%" in text
    assert "1:06:40 left" in text
    full, empty = ("#", ".") if ascii else ("━", "╌")
    bar = re.search(f"{re.escape(full)}+{re.escape(empty)}+", text)
    assert bar
    assert len(bar[0]) >= 10
    assert 0.5 < bar[0].count(full) / len(bar[0]) < 0.7
    assert text.isascii() or not ascii or "東" in text


def test_more_room_says_more():
    shown = [line("job", *standing(event(), 0, 0.0), width, ascii=False) for width in (60, 80, 120)]
    assert "192 of 300" in shown[0]
    assert "1 failed" in shown[1]
    assert "$0.0190" in shown[2]
    assert "3.2/s" in shown[2]


def test_time_goes_on_between_two_events():
    _, told = standing(event(remaining=100.0), 0, 40.0)
    assert told[0] == "1:00 left"
    _, told = standing(event(remaining=10.0), 0, 40.0)
    assert told[0] == "0:00 left"
    _, told = standing(event(remaining=None), 0, 40.0)
    assert told[0] == "-:-- left"


def test_a_run_that_is_ending_says_how_many_calls_it_waits_for():
    _, told = standing(event(stop=Stop(StopReason.MAX_ITEMS, "enough")), 0, 0.0)
    assert told[0] == "ending: 8 in flight"


def test_what_earlier_runs_did_counts_in_no_rate():
    _, told = standing(event(), 132, 0.0)
    assert "1.0/s" in told


def test_a_job_without_items_is_whole():
    part, _ = standing(event(counts=Counts()), 0, 0.0)
    assert part == 1.0


def test_the_bar_alone_is_coloured():
    text = line("name", 0.5, ["1 of 2"], 60, ascii=False)
    assert re.fullmatch(r"name \x1b\[36m━+\x1b\[0m╌+  50% 1 of 2", coloured(text))
    assert coloured(text).replace("\x1b[36m", "").replace("\x1b[0m", "") == text
    assert coloured("no bar") == "no bar"


@pytest.mark.parametrize(("width", "text"), [(10, "name"), (3, "…me"), (1, "…"), (0, "")])
def test_names_are_cut_before_their_end(width: int, text: str):
    assert cut("name", width, "…") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (100_000, "27:46:40")]
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_a_status_line_waits_for_the_row_that_a_thread_prints(monkeypatch: pytest.MonkeyPatch):
    """Drawn between the wiping and the row, it would stand before the row."""
    shown: list[str] = []
    showing: list[threading.Thread] = []
    console = Console()

    class Screen(io.StringIO):
        """A terminal at which the loop's thread has news while a row is printed."""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if text == "row":
                showing.append(threading.Thread(target=console.show_status, args=("second",)))
                showing[0].start()
                showing[0].join(0.05)  # as it has to wait
            shown.append(text)
            return len(text)

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    console.show_status("first")
    console.print("row")
    showing[0].join()
    said = "".join(shown)
    assert said == "\rfirst\x1b[K\r\x1b[Krow\nfirst\rsecond\x1b[K"


# --- at a terminal ----------------------------------------------------------------------------


def drawn(shown: str) -> list[str]:
    """Return each status line that was drawn, without what steers the terminal."""
    lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[\d;]*m", "", shown))
    return [text.removesuffix("\x1b[K") for text in lines if text.endswith("\x1b[K")]


@pytest.mark.parametrize(
    "columns",
    [pytest.param(60, marks=pytest.mark.slow), 80, pytest.param(120, marks=pytest.mark.slow)],
)
def test_a_job_at_a_terminal(account: Emulator, terminal, images: Path, columns: int):
    """Many items end in a summary, and not in a line for each."""
    for number in range(55):
        (images / f"more-{number}.png").write_bytes(PNG + b"more" + bytes([number]))
    account.faults.add(InjectedFault(None, None, times=None, latency=0.02))
    one: Terminal = terminal("embed", images, columns=columns)
    status, shown = one.end()
    assert status == 0
    bars = [text for text in drawn(shown) if "%" in text]
    assert bars
    assert all(width_of(text) < columns for text in bars)
    assert all("━" in text or "╌" in text for text in bars)
    assert all(" left" in text or "ending" in text for text in bars)
    assert "100%" in bars[-1]
    last = [text for text in shown.split("\r\n") if text][-1]
    assert "60 done" in last
    assert shown.count("numbers") == 0
    assert len(shown.split("\r\n")) < 8


def test_few_results_at_a_terminal_stand_on_lines_of_their_own(
    account: Emulator, terminal, images: Path
):
    """The status line gives way to each, and is gone at the end."""
    account.faults.add(InjectedFault(None, None, times=None, latency=0.05))
    status, shown = terminal("embed", images, "--concurrency", "1").end()
    assert status == 0
    for number in range(5):
        # Where a status line stands at that moment, it is wiped first.
        line = re.escape(f"{images / f'{number}.png'}: 1408 numbers\r\n")
        assert re.search(rf"(\A|\n|\r\x1b\[K){line}", shown)
    assert shown.endswith("$0.0005)\r\n")


def test_an_upload_at_a_terminal(account: Emulator, terminal, video: Path):
    status, shown = terminal("caption", video, "-p", "What?", columns=60).end()
    assert status == 0
    assert any("0.3 of 0.3 MB sent" in text and "━" in text for text in drawn(shown))


def test_a_dumb_terminal_gets_plain_lines(account: Emulator, terminal, images: Path):
    status, shown = terminal("embed", images, TERM="dumb").end()
    assert status == 0
    assert "\x1b" not in shown
    assert "5 of 5" in shown


def test_a_terminal_that_knows_ascii_only(account: Emulator, terminal, images: Path):
    status, shown = terminal("embed", images, PYTHONIOENCODING="ascii").end()
    assert status == 0
    assert "#" in shown
    assert "\\u" not in shown


def test_quiet_draws_nothing(account: Emulator, terminal, images: Path):
    status, shown = terminal("embed", images, "--quiet", "--output", "out.jsonl").end()
    assert (status, shown) == (0, "")
