"""``python -m tests.simulation --seed 4711`` repeats a life; ``--seeds 1000`` lives many."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tests.simulation.life import a_life
from tests.simulation.loop import StuckError
from tests.simulation.planted import PLANTED
from tests.simulation.world import BrokenInvariantError, live

SLICE = 25
"""Lives of one process: what it remembers of them goes with it."""


def slices(first: int, count: int, processes: int) -> int:
    """Live many lives, a few to a process; return 1 if one was broken."""
    began, status = time.monotonic(), 0
    starts = list(range(first, first + count, SLICE))
    running: list[subprocess.Popen[bytes]] = []
    while starts or running:
        while starts and len(running) < processes:
            start = starts.pop(0)
            size = min(SLICE, first + count - start)
            command = ["--from", str(start), "--seeds", str(size), "--processes", "0"]
            running.append(subprocess.Popen([sys.executable, "-m", "tests.simulation", *command]))
        status |= running.pop(0).wait() != 0
    seconds = time.monotonic() - began
    print(f"{count} lives in {seconds:.0f} s, {count / seconds:.1f} a second")
    return status


def many(seeds: range) -> int:
    """Live many lives here, and tell of those that broke; return 1 if there are any."""
    status = steps = 0
    for seed in seeds:
        try:
            steps += len(live(seed, a_life).story)
        except Exception as error:
            status = 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"seeds {seeds.start} to {seeds.stop - 1}: {steps} steps", flush=True)
    return status


def found(name: str, seeds: range) -> str:
    """Live with a fault put in on purpose until it shows; say how many lives that took."""
    for seed in seeds:
        try:
            with PLANTED[name]():
                live(seed, a_life)
        except (BrokenInvariantError, StuckError, TimeoutError) as error:
            story = [note for note in getattr(error, "__notes__", ()) if note.startswith("seed ")]
            steps = story[0].partition(":")[0].partition(", ")[2] if story else ""
            return f"{name}: seed {seed}, {steps}: {type(error).__name__}: {str(error)[:90]}"
    return f"{name}: NOT FOUND in {len(seeds)} lives"


def main() -> int:
    """Live as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="live this life and print its story")
    parser.add_argument("--seeds", type=int, default=100, help="how many lives (default 100)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--planted", action="store_true", help="look for faults put in on purpose")
    given = parser.parse_args()
    if given.planted:
        status = 0
        for name in PLANTED:
            told = found(name, range(given.first, given.first + given.seeds))
            status |= "NOT FOUND" in told
            print(told, flush=True)
        return status
    if given.seed is not None:
        world = live(given.seed, a_life)
        print("\n".join(world.story))
        print(f"{len(world.story)} steps, {world.loop.turns} turns of the loop, {world.digest()}")
        return 0
    if given.processes:
        return slices(given.first, given.seeds, given.processes)
    return many(range(given.first, given.first + given.seeds))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is part of a life.
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
