"""A story's processes, from its side: orders go out, and what each one says is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.simulation.real.service import PATIENCE, check


class Workers:
    """The processes: each order is done by one of its own."""

    def __init__(self, planted: str = "") -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.real.program", *filter(None, [planted])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            text=True,
        )
        self._number = 0
        self._said: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self.at_work: dict[int, str] = {}
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            with self._news:
                self._said.append(json.loads(line))
                self._news.notify_all()

    def _send(self, order: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()

    def start(self, do: str, **order: Any) -> int:
        self._number += 1
        self._send({"do": do, "worker": self._number, **order})
        self.at_work[self._number] = do
        return self._number

    def heard(self, worker: int, word: str) -> Any:
        """Return what a worker has said under a word, once it has."""
        with self._news:
            found: list[Any] = []

            def said() -> bool:
                found[:] = [
                    one[word] for one in self._said if one["worker"] == worker and word in one
                ]
                return bool(found)

            check(self._news.wait_for(said, PATIENCE), f"hangs: {self.at_work}")
            return found[0]

    def signal(self, worker: int, number: signal.Signals) -> None:
        """Signal one that nobody has waited for: its number is nobody else's until then."""
        os.kill(self.heard(worker, "process"), number)

    def wait(self, worker: int) -> dict[str, Any]:
        """Return all that a process has said, once it has ended."""
        self._send({"do": "reap", "worker": worker})
        self.heard(worker, "ended")
        with self._news:
            mine = [said for said in self._said if said["worker"] == worker]
            self._said = [said for said in self._said if said["worker"] != worker]
        del self.at_work[worker]
        all_said = {word: value for said in mine for word, value in said.items()}
        check("broken" not in all_said, f"{all_said}")
        return all_said

    def close(self) -> None:
        """End all, those that listen too."""
        for worker in sorted(self.at_work):
            self.signal(worker, signal.SIGKILL)
            self.wait(worker)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._thread.join()
        self._server.stdout.close()
        self._server.wait()
