"""``python -m tests.simulation --seed 4711`` repeats a life; ``--seeds 1000`` lives many."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import cast

from tests.simulation.invariants import BrokenInvariantError
from tests.simulation.life import a_life
from tests.simulation.loop import StuckError
from tests.simulation.planted import PLANTED
from tests.simulation.real.story import stories
from tests.simulation.shrinking import shrunk, steps_of
from tests.simulation.world import live

NEARBY = 200
"""Lives from the one that is known to find a planted fault on, in which it is looked for."""
SLICE = 25
"""Lives of one process: what it remembers of them goes with it."""


def slices(seeds: Sequence[int], processes: int, *, digests: bool = False) -> int:
    """Live many lives, a few to a process, each forked from this one; return 1 if one broke."""
    began, status = time.monotonic(), 0
    forking = multiprocessing.get_context("fork")
    steps = forking.Value("q", 0)
    waiting = [seeds[start : start + SLICE] for start in range(0, len(seeds), SLICE)]
    running: dict[int, multiprocessing.process.BaseProcess] = {}

    def live_some(some: Sequence[int]) -> None:
        broken, count = many(some, digests=digests)
        with steps.get_lock():
            steps.value += count
        sys.exit(broken)

    while waiting or running:
        while waiting and len(running) < processes:
            process = forking.Process(target=live_some, args=(waiting.pop(0),))
            process.start()
            running[process.sentinel] = process
        for sentinel in multiprocessing.connection.wait(list(running)):
            ended = running.pop(cast("int", sentinel))
            ended.join()
            status |= ended.exitcode != 0
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} lives in {seconds:.0f} s in {processes} processes:"
        f" {len(seeds) / seconds:.1f} lives and {steps.value / seconds:.0f} steps a second"
    )
    return status


def many(seeds: Sequence[int], *, digests: bool) -> tuple[int, int]:
    """Live many lives here, and tell of those that broke; return 1 if any did, and the steps."""
    status = steps = 0
    for seed in seeds:
        try:
            world = live(seed, a_life)
            steps += len(world.story)
            if digests:
                print(f"{seed} {world.digest()}", flush=True)
        except Exception as error:
            status = 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:600]}", flush=True)
            without = shlex.quote(",".join(sorted(shrunk(seed, error))))
            print(f"    python -m tests.simulation --seed {seed} --without {without}", flush=True)
    return status, steps


def found(name: str, seeds: Sequence[int]) -> tuple[int, int, str] | None:
    """Live with a fault put in on purpose until it shows; return the seed, the steps and how."""
    for seed in seeds:
        try:
            with PLANTED[name].plant():
                live(seed, a_life)
        except (BrokenInvariantError, StuckError, TimeoutError) as error:
            return seed, steps_of(error), f"{type(error).__name__}: {str(error)[:80]}"
    return None


def planted(seeds: Sequence[int] | None, *, part: int, parts: int) -> int:
    """Look for every planted fault, or for one in so many; print a table of what finds each.

    Args:
        seeds: Where to look; by default in the life that is known to find it, and in some after
            it: what changes in the product may change the life.
        part: Which of the faults, counting from 0.
        parts: In how many parts they are divided.
    """
    status = 0
    for number, (name, fault) in enumerate(PLANTED.items()):
        if number % parts != part:
            continue
        told = found(name, seeds or range(fault.seed, fault.seed + NEARBY))
        status |= told is None
        seed, steps, how = told or ("", "", "NOT FOUND")
        print(f"| {name} | {seed} | {steps} | {how} |", flush=True)
    return status


def main() -> int:
    """Live as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, help="live this life and print its story")
    parser.add_argument("--seeds", type=int, help="how many lives (default 100)")
    parser.add_argument("--only", help="these lives, with commas between")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--real", action="store_true", help="stories of real processes instead")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--digests", action="store_true", help="print each story's fingerprint")
    parser.add_argument("--planted", action="store_true", help="look for faults put in on purpose")
    parser.add_argument("--fault", choices=PLANTED, help="put this one in, whatever is lived")
    parser.add_argument("--part", type=int, default=0, help="which part of these")
    parser.add_argument("--parts", type=int, default=1, help="how many parts of these there are")
    parser.add_argument("--without", default="", help="what of the life is left out, with commas")
    given = parser.parse_args()
    many_seeds: Sequence[int] = range(given.first, given.first + (given.seeds or 100))
    if given.only:
        many_seeds = [int(seed) for seed in given.only.split(",")]
    if given.real:
        one = given.seed is not None
        return stories([given.seed] if one else many_seeds, told=one)[0]
    if given.planted:
        seeds = None if given.seeds is None else many_seeds
        return planted(seeds, part=given.part, parts=given.parts)
    fault = PLANTED[given.fault].plant() if given.fault else contextlib.nullcontext()
    with fault:
        if given.seed is None:
            return slices(many_seeds, given.processes, digests=given.digests)
        world = live(given.seed, a_life, frozenset(filter(None, given.without.split(","))))
    print("\n".join(world.story))
    print(f"{len(world.story)} steps, {world.loop.turns} turns of the loop, {world.digest()}")
    return 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is part of a life.
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
