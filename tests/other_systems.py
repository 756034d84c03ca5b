"""Lives on another system, as far as that can be played.

Usage: python -P tests/other_systems.py win32|darwin FOLDER

What that system has not is taken away before anything of ours is imported: modules that only POSIX
has cannot be imported, and os, signal and socket have lost what is only there. aiohttp, asyncio and
the standard library are imported before, as they are, since they look at the system themselves.
"""

import asyncio
import fcntl
import importlib
import importlib.abc
import os
import pathlib
import pkgutil
import shutil
import signal
import socket
import sqlite3  # noqa: F401  # the standard library looks at the system by itself, so it comes first
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import webbrowser  # noqa: F401
from types import ModuleType

import aiohttp.web  # noqa: F401
import anyio._backends._asyncio  # noqa: F401
import cattrs.preconf.json  # noqa: F401
import cyclopts  # noqa: F401
import orjson  # noqa: F401  # its older versions crash where the system changes before
import rich.console
import rich.progress
import rich.prompt  # noqa: F401
import tenacity  # noqa: F401

POSIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "readline"}
POSIX_NAMES = {
    os: "fork register_at_fork geteuid getuid getgid pread preadv pwrite sendfile fchmod chown "
    "O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_DIRECTORY RWF_NOWAIT posix_fadvise posix_fallocate killpg "
    "setsid statvfs sched_getaffinity mkfifo WNOHANG waitid uname getpgid",
    signal: "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGPIPE SIGALRM SIGCHLD setitimer alarm",
    socket: "SO_REUSEPORT TCP_USER_TIMEOUT TCP_INFO MSG_DONTWAIT",
}


class Missing(importlib.abc.MetaPathFinder):
    """Finds no module that the system has not."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse it."""
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def __init__(self, names: set[str]) -> None:
        self.names = names


def of_windows() -> ModuleType:
    """Return a stand-in for Windows' msvcrt: one lock a file, by the lock that is here."""
    module = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, count: int) -> None:
        how = fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.flock(descriptor, how)

    vars(module).update(LK_UNLCK=0, LK_NBLCK=2, locking=locking)
    return module


def become(system: str) -> None:
    """Take away what a system has not."""
    # Decided when the standard library was imported, by what was there then; since 3.13 asyncio
    # counts processors by sched_getaffinity where there is one.
    vars(os)["process_cpu_count"] = os.cpu_count
    if system == "win32":
        vars(shutil)["_use_fd_functions"] = False
    sys.platform = system
    if system == "win32":
        os.name = "nt"
        for module in (pathlib, sys.modules.get("pathlib._local")):  # paths stay as they are here
            if module is not None:
                vars(module)["WindowsPath"] = pathlib.PosixPath
        sys.modules["msvcrt"] = of_windows()
        for name in POSIX_MODULES:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, Missing(POSIX_MODULES))
        for module, names in POSIX_NAMES.items():
            for name in names.split():
                if hasattr(module, name):
                    delattr(module, name)
    else:
        for name in (
            "preadv",
            "RWF_NOWAIT",
            "posix_fadvise",
            "sched_getaffinity",
            "posix_fallocate",
        ):
            if hasattr(os, name):
                delattr(os, name)
        for name in ("TCP_USER_TIMEOUT", "TCP_INFO"):
            if hasattr(socket, name):
                delattr(socket, name)


def import_all() -> int:
    """Import every module of the package; return how many there are."""
    import memories_async

    count = 0
    for module in pkgutil.walk_packages(memories_async.__path__, "memories_async."):
        if module.name.endswith("__main__") or ".ray" in module.name:
            continue  # a program, and what needs an extra of its own
        importlib.import_module(module.name)
        count += 1
    return count


async def live(folder: pathlib.Path) -> None:
    """Send a file, run a job, and keep a limit and a callback store in files."""
    from memories_async import Memories
    from memories_async.bulk import Job, JobBusy
    from memories_async.callbacks import CallbackInbox, SqliteStore
    from memories_async.emulator import Emulator
    from memories_async.limiters import SqliteLimiter
    from memories_async.observe import Receipts

    picture = folder / "photo.jpg"
    async with (
        Emulator() as emulator,
        Memories(
            "key",
            caption_key="key",
            base_url=emulator.url,
            limiter=SqliteLimiter(folder / "limits.sqlite"),
            observers=[Receipts(folder / "receipts.jsonl")],
        ) as client,
        CallbackInbox("https://app.example.com", store=SqliteStore(folder / "callbacks.db")),
    ):
        assert (await client.captions.image(picture, "What is this?")).text
        added = await client.library.add_video(folder / "film.mp4")
        await client.library.wait_until_searchable(added.video_no)
        await client.library.download(added.video_no, folder / "copy.mp4")
        assert (folder / "copy.mp4").read_bytes() == (folder / "film.mp4").read_bytes()
        path = folder / "photos.job"
        again = path.exists()
        opened = Job.open(path) if again else Job.create(path, "embed_images", [picture])
        async with await opened as job:
            assert (await job.run(client)).counts.done == 1
            await job.export(folder / "photos.jsonl")
            if not again:
                async with await Job.open(path) as second:
                    lock = await second._journal.lock("run")
                    try:
                        await job.run(client)
                    except JobBusy:
                        pass
                    else:
                        raise AssertionError("two runs of one job at once")
                    await second._journal.unlock(lock)
        emulator.assert_billed(0 if again else 1, "embeddings.image")


def main(system: str, folder: str) -> int:
    """Start twice: each is a process of its own, from before anything of ours is imported."""
    for once_more in (False, True):
        start = os.fork()
        if start == 0:
            become(system)
            if not once_more:  # what the files are changes nothing of what is imported
                print(import_all(), "modules imported")
            asyncio.run(live(pathlib.Path(folder)))
            print("called")
            return 0
        _, status = os.waitpid(start, 0)
        if status:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
