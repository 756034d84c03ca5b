"""Ctrl-C, SIGTERM and SIGHUP: the first lets what may be billed end, the second aborts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import TypeVar

from memories_async.cli.exit_codes import Exit
from memories_async.cli.terminal.console import console
from memories_async.config import CallOptions

T = TypeVar("T")

SIGNALS = {
    getattr(signal, name): status
    for name, status in (
        ("SIGINT", Exit.INTERRUPTED),
        ("SIGTERM", Exit.TERMINATED),
        ("SIGHUP", Exit.HUNG_UP),
    )
    if hasattr(signal, name)  # Windows has no SIGHUP
}
"""What is handled, and the exit status of a command that it ended."""

_SEND_AGAIN_SECONDS = 0.05

AGAIN = "once more aborts, and what was sent may have been billed"


class Interrupts:
    """What one command does when it is told to end.

    Attributes:
        status: The exit status that the first signal asks for; None before one.
        may_be_billed: Whether a call that costs money has begun to leave, and not ended yet.
    """

    def __init__(self) -> None:
        self.status: Exit | None = None
        self.may_be_billed = False
        self._task: asyncio.Task[object] | None = None
        self._let_end: Callable[[], bool] | None = None

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a command; signals reach it from here until it has ended.

        Raises:
            CancelledError: A signal aborted it.
        """
        self.status, self.may_be_billed = None, False
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        handled: list[signal.Signals] = []
        for number in SIGNALS:
            # What nohup or a shell's & made us ignore stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                # Windows has no such handlers, and only the main thread may have any.
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    loop.add_signal_handler(number, self.receive, number)
                    handled.append(number)
        try:
            return await work
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def receive(self, number: int) -> None:
        """Do what a signal asks for."""
        first, self.status = self.status is None, self.status or SIGNALS[signal.Signals(number)]
        if first and self._let_end is not None and self._let_end():
            return
        if self._task is not None:
            self._task.cancel()

    @contextlib.contextmanager
    def gracefully(self, let_end: Callable[[], bool]) -> Generator[None]:
        """Let something under way end at the first signal.

        Args:
            let_end: Sees to it that nothing further is begun; says whether there is anything to
                wait for. If there is nothing, the first signal aborts.
        """
        self._let_end = let_end
        try:
            yield
        finally:
            self._let_end = None


interrupts = Interrupts()
"""The process's own: signals are the process's."""


@contextlib.contextmanager
def interruptible() -> Generator[None]:
    """Let a signal end what blocks the thread: a running loop would only note it for later."""
    arrived = threading.Event()

    def abort(number: int, _: object) -> None:
        if not arrived.is_set():  # what is sent once more must not end the cleaning up, too
            arrived.set()
            interrupts.status = SIGNALS[signal.Signals(number)]
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, abort)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        with _signals_sent_again(arrived):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_sent_again(arrived: threading.Event) -> Generator[None]:
    """Send this thread each signal again until it has arrived.

    One that comes after Python has last looked for signals, and before the thread blocks in the
    kernel, is only noted: whoever ended a command at the moment of its question waited for ever.
    """
    if sys.platform == "win32":
        yield
        return
    thread = threading.get_ident()
    reading, writing = socket.socketpair()

    def send_again() -> None:
        while number := reading.recv(1):  # nothing: it is closed
            while not arrived.wait(_SEND_AGAIN_SECONDS) and number[0] in SIGNALS:
                signal.pthread_kill(thread, number[0])

    sender = threading.Thread(target=send_again, name="memories-async-signals", daemon=True)
    with reading, writing:
        writing.setblocking(False)
        sender.start()
        loop = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            arrived.set()
            signal.set_wakeup_fd(loop)
            writing.close()
            sender.join()


class NotSentError(Exception):
    """The command was told to end before this request left."""


@contextlib.contextmanager
def one_call() -> Generator[CallOptions]:
    """Give the options of a billed call that is let end once it has begun to be sent."""

    async def before_sending() -> None:
        if interrupts.status is not None:
            raise NotSentError
        interrupts.may_be_billed = True

    def let_end() -> bool:
        if interrupts.may_be_billed:
            console.say(f"the call under way is let end; {AGAIN}")
        return interrupts.may_be_billed

    with interrupts.gracefully(let_end):
        yield CallOptions(before_sending=before_sending)
    interrupts.may_be_billed = False
