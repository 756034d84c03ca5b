"""Runs killed at every step, at any moment, with faults of the service.

``KILLS=60`` asks for as many of each kind of job.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from memories_async import Memories
from memories_async.emulator import Emulator
from memories_async.emulator.faults import Cut
from memories_async.emulator.faults import InjectedFault as Fault
from memories_async.emulator.http.envelopes import Reason
from tests.bulk.conftest import Kill, MakeImages
from tests.bulk.killings import Killings

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("KILLS", "20"))
"""For each kind of job."""


@pytest.mark.parametrize("kind", ["add_images", "embed_images"])
async def test_no_kill_loses_an_input_or_pays_twice(
    emulator: Emulator,
    client: Memories,
    images: MakeImages,
    tmp_path: Path,
    kill: Kill,
    kind: str,
) -> None:
    chance = random.Random(kind)
    stage = Killings(emulator, client, kill, kind, images(12))
    kills = 0
    while kills < KILLS:
        times = chance.randint(1, 3)
        faults = [
            chance.choice(
                [
                    Fault(None, Cut(), moment="processed", nth=chance.randint(1, 6)),
                    Fault(None, Cut(), moment="headers", nth=chance.randint(1, 6)),
                    Fault(None, Reason.BAD_REQUEST, nth=chance.randint(1, 6)),
                    Fault(None, latency=0.05, times=None),
                ]
            )
        ]
        when: dict[str, float] = chance.choice(
            [
                {"before": chance.randint(1, 12)},
                {"after": chance.randint(1, 12)},
                {"seconds": chance.uniform(0.02, 0.3)},
            ]
        )
        path = tmp_path / f"after {kills}"
        await stage.kill_then_resume(path, *faults, times=times, **when)
        kills += times
