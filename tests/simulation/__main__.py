"""``python -m tests.simulation --seed 4711`` repeats a life; ``--seeds 1000`` lives many."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.life import a_life
from tests.simulation.loop import StuckError
from tests.simulation.planted import PLANTED
from tests.simulation.shrinking import shrunk, steps_of
from tests.simulation.world import live

NEARBY = 40
"""Lives from the one that is known to find a planted fault on, in which it is looked for."""
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
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:600]}", flush=True)
            without = ",".join(sorted(shrunk(seed, error)))
            print(f"    python -m tests.simulation --seed {seed} --without {without}", flush=True)
    print(f"seeds {seeds.start} to {seeds.stop - 1}: {steps} steps", flush=True)
    return status


def found(name: str, seeds: range) -> tuple[int, int, str] | None:
    """Live with a fault put in on purpose until it shows; return the seed, the steps and how."""
    for seed in seeds:
        try:
            with PLANTED[name].plant():
                live(seed, a_life)
        except (BrokenInvariantError, StuckError, TimeoutError) as error:
            return seed, steps_of(error), f"{type(error).__name__}: {str(error)[:80]}"
    return None


def planted(seeds: range | None, *, part: int, parts: int) -> int:
    """Look for every planted fault, or for one in so many; print a table of what finds each.

    Args:
        seeds: Where to look; by default in the life that is known to find it, and in some after
            it: what changes in the product may change the life.
        part: Which of the faults, counting from 0.
        parts: In how many parts they are divided.
    """
    status = 0
    for number, (name, fault) in enumerate(PLANTED.items()):
        if number % parts != part or (seeds is None and fault.seed is None):
            continue
        told = found(name, seeds or range(fault.seed or 0, (fault.seed or 0) + NEARBY))
        status |= told is None
        seed, steps, how = told or ("", "", "NOT FOUND")
        print(f"| {name} | {seed} | {steps} | {how} |", flush=True)
    return status


def main() -> int:
    """Live as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="live this life and print its story")
    parser.add_argument("--seeds", type=int, help="how many lives (default 100)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--planted", action="store_true", help="look for faults put in on purpose")
    parser.add_argument("--part", type=int, default=0, help="which part of these")
    parser.add_argument("--parts", type=int, default=1, help="how many parts of these there are")
    parser.add_argument("--without", default="", help="what of the life is left out, with commas")
    given = parser.parse_args()
    if given.planted:
        seeds = None if given.seeds is None else range(given.first, given.first + given.seeds)
        return planted(seeds, part=given.part, parts=given.parts)
    if given.seed is not None:
        world = live(given.seed, a_life, frozenset(filter(None, given.without.split(","))))
        print("\n".join(world.story))
        print(f"{len(world.story)} steps, {world.loop.turns} turns of the loop, {world.digest()}")
        return 0
    count = given.seeds or 100
    if given.processes:
        return slices(given.first, count, given.processes)
    return many(range(given.first, given.first + count))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is part of a life.
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
