"""Python in processes that need no start: a server has loaded the product, and forks each.

``start`` is ``subprocess.Popen([sys.executable, *options, *arguments])`` at a tenth of the cost;
what it returns has a Popen's methods. A process has streams, environment, folder, session and
``__main__`` of its own, and its interpreter ends as one does that was started. Where
``PYTHON*`` or a locale says what is to be, and where this is not Linux, it is started indeed; what
proves something of a start itself, such as what is imported, does not come here.

A server has one thread and no loop. It forks a keeper for each program, which forks the program,
tells the number, then the status, and leaves it a zombie until nobody wants to know any more: until
then its number is nobody else's.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import functools
import gc
import importlib
import importlib.util
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader
from pathlib import Path
from typing import BinaryIO, Protocol, cast

LOADED = (
    "memories_async.bulk",
    "memories_async.callbacks",
    "memories_async.cli.app",
    "memories_async.cli.commands.config",
    "memories_async.cli.commands.embed",
    "memories_async.emulator.server",
    "memories_async.sync",
    "memories_async._engine.pipeline",
)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = dict(os.environ)
"""Of each server: as it was before any test, whichever comes first."""
AT_START = ("PYTHON", "LANG", "LC_", "SSL_CERT_")
"""How variables begin that are read as an interpreter starts or aiohttp loads, and never again."""
STREAMS = "PYTHONIOENCODING"
"""Read then as well, but for the three streams alone, which each fork makes anew."""
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

RELAY = """
import json, os, socket, sys
orders = socket.socket(fileno=int(sys.argv[1]))
told, keeper_s = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
order = {
    "arguments": sys.argv[2:],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "controlled": False,
}
socket.send_fds(orders, [json.dumps(order).encode()], [0, 1, 2, keeper_s.fileno()])
keeper_s.close()
told.recv(100)
status = int(told.recv(100))
os.kill(os.getpid(), -status) if status < 0 else os._exit(status)
"""


class Started(Protocol):
    """What both kinds of process have."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> BinaryIO | None: ...
    @property
    def stdout(self) -> BinaryIO | None: ...
    @property
    def stderr(self) -> BinaryIO | None: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...
    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]: ...


def start(
    arguments: Sequence[str],
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    controlled: bool = False,
    loaded: Sequence[str] = (),
) -> Started:
    """Start ``python [options] arguments``; ``controlled``, by the terminal that is stdin.

    The arguments begin with ``-m`` and a module, with ``-c`` and a text, or with a file.
    ``loaded`` are modules that it has loaded already, besides ``LOADED``.
    """
    env = dict(os.environ if env is None else env)
    server = _server(tuple(options), tuple(loaded)) if sys.platform == "linux" else None
    if server is None or reads_at_start(env):
        command = [sys.executable, *options, *arguments]
        if controlled:
            command = [sys.executable, "-c", CONTROLLED, *command]
        return subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,  # as a fork's streams: what is written is there
            start_new_session=controlled,
        )
    order = {
        "arguments": list(arguments),
        "environment": env,
        "folder": os.path.abspath(cwd or os.getcwd()),
        "controlled": controlled,
    }
    return Forked(server, order, (stdin, stdout, stderr))


def completed(
    arguments: Sequence[str],
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    loaded: Sequence[str] = (),
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Do the same until its end, as ``subprocess.run`` does that captures text."""
    started = start(arguments, options=options, env=env, cwd=cwd, loaded=loaded)
    try:
        out, err = started.communicate(timeout=timeout)
    except BaseException:
        started.kill()
        started.communicate()
        raise
    return subprocess.CompletedProcess(arguments, started.wait(), out.decode(), err.decode())


def relayed(
    arguments: Sequence[str], *, options: Sequence[str] = ()
) -> tuple[list[str], tuple[int, ...]]:
    """Return a command by which a shell has the same done, and the descriptors to pass to it.

    Signals do not reach the program, and its three streams must be open.
    """
    server = _server(tuple(options), ()) if sys.platform == "linux" else None
    if server is None or reads_at_start(os.environ):
        return [sys.executable, *options, *arguments], ()
    passed = server.fileno()
    return [sys.executable, "-I", "-S", "-c", RELAY, str(passed), *arguments], (passed,)


def least(**own: str) -> dict[str, str]:
    """Return variables of one's own, and of the others what interpreters read at their start."""
    return {**{name: ENVIRONMENT[name] for name in ENVIRONMENT if name.startswith(AT_START)}, **own}


def reads_at_start(env: Mapping[str, str]) -> bool:
    """Say whether an interpreter would be another if it started with these variables."""
    return any(
        name.startswith(AT_START) and env.get(name) != ENVIRONMENT.get(name)
        for name in {*env, *ENVIRONMENT} - {STREAMS}
    )


class Forked:
    """A process that a server has forked."""

    def __init__(self, server: Server, order: object, wanted: tuple[int, int, int]) -> None:
        streams: list[BinaryIO | None] = []
        theirs: list[int] = []
        for number, descriptor in enumerate(wanted):
            if descriptor == subprocess.PIPE:
                reading, writing = os.pipe()
                ours = open(writing if number == 0 else reading, "wb" if number == 0 else "rb", 0)  # noqa: SIM115  # closed by communicate
                streams.append(ours)
                theirs.append(reading if number == 0 else writing)
            else:
                null = descriptor == subprocess.DEVNULL
                theirs.append(os.open(os.devnull, os.O_RDWR) if null else os.dup(descriptor))
                streams.append(None)
        self.stdin, self.stdout, self.stderr = streams
        self.returncode: int | None = None
        self._control, keeper_s = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with keeper_s:
            server.order(order, [*theirs, keeper_s.fileno()])
        for descriptor in theirs:
            os.close(descriptor)
        self.pid = int(self._control.recv(100))

    def poll(self) -> int | None:
        """Return the status, if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the status, a signal's number below zero."""
        if self.returncode is None:
            self._control.settimeout(timeout)
            try:
                self.returncode = int(self._control.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a fork", timeout or 0) from None
        return self.returncode

    def send_signal(self, sig: int, /) -> None:
        """Send a signal, if it has not ended."""
        # The server that started it may have seen its end, and not said so yet.
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Read all that comes until its end, and close everything."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        read: dict[BinaryIO | None, bytes] = {None: b""}
        if self.stdin is not None:
            self.stdin.close()
        with selectors.DefaultSelector() as selector:
            for stream in (self.stdout, self.stderr):
                if stream is not None and not stream.closed:
                    selector.register(stream, selectors.EVENT_READ, stream)
            while selector.get_map():
                left = end - time.monotonic()
                ready = selector.select(None if timeout is None else max(left, 0))
                if not ready:
                    raise subprocess.TimeoutExpired("a fork", timeout or 0)
                for key, _ in ready:
                    piece = os.read(key.fd, 65536)
                    read[key.data] = read.get(key.data, b"") + piece
                    if not piece:
                        selector.unregister(key.fileobj)
        self.wait(None if timeout is None else max(end - time.monotonic(), 0.001))
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self._control.close()
        return read.get(self.stdout, b""), read.get(self.stderr, b"")


class Server:
    """An interpreter that has been started with some options, and is told what to fork."""

    def __init__(self, options: Sequence[str], loaded: Sequence[str]) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, *options, "-m", "tests.forks", *loaded],
                stdin=theirs.fileno(),
                cwd=ROOT,
                env={name: value for name, value in ENVIRONMENT.items() if name != STREAMS},
            )

    def order(self, order: object, descriptors: Sequence[int]) -> None:
        """Have a process forked that gets these descriptors."""
        socket.send_fds(self._orders, [json.dumps(order).encode()], descriptors)

    def fileno(self) -> int:
        """Return the descriptor by which it is told."""
        return self._orders.fileno()

    def close(self) -> None:
        """End the server."""
        self._orders.close()
        self._popen.wait()


@functools.cache
def _server(options: tuple[str, ...], loaded: tuple[str, ...]) -> Server:
    server = Server(options, loaded)
    atexit.register(server.close)
    return server


def serve() -> None:
    """Fork until nobody orders any more; return as well in each fork, once its program has run."""
    for name in (*LOADED, *sys.argv[1:]):
        importlib.import_module(name)
    # Looking at what has been loaded, at its end, took each fork three quarters of its time.
    gc.collect()
    gc.freeze()
    orders = socket.socket(fileno=0)
    keepers: set[int] = set()
    while True:
        keepers -= {keeper for keeper in keepers if os.waitpid(keeper, os.WNOHANG)[0]}
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 4)
        if not message:
            orders.close()
            break
        assert len(os.listdir("/proc/self/task")) == 1, "only this thread would be in a fork"
        keeper = os.fork()
        if keeper == 0:
            orders.detach()
            *streams, control = descriptors
            if keep(streams, control):
                become(json.loads(message), streams)
            return
        keepers.add(keeper)
        for descriptor in descriptors:
            os.close(descriptor)


def keep(streams: Sequence[int], control: int) -> bool:
    """Fork once more; in the fork return, and in the parent tell how that ended."""
    child = os.fork()
    if child == 0:
        os.close(control)
        return True
    for stream in (0, *streams):
        os.close(stream)
    with socket.socket(fileno=control) as told:
        try:
            told.send(str(child).encode())
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            exited = ended.si_code == os.CLD_EXITED
            told.send(str(ended.si_status if exited else -ended.si_status).encode())
            told.recv(1)
            os.waitpid(child, 0)  # so that what it cost is counted among the tests' children
        finally:  # also where Ctrl-C has been typed at the tests
            os._exit(0)


def become(order: dict[str, object], streams: Sequence[int]) -> None:
    """Be the process that was ordered, and run its program."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if order["controlled"]:
        import fcntl  # POSIX's
        import termios  # POSIX's

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(cast("dict[str, str]", order["environment"]))
    encoding, _, errors = os.environ.get(STREAMS, "").partition(":")
    if encoding:
        encoding, errors = codecs.lookup(encoding).name, errors or "strict"
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        was = getattr(sys, name)
        direct = number > 0 and was.write_through
        raw = open(number, "wb" if number else "rb", 0 if direct else -1, closefd=False)  # noqa: SIM115  # the interpreter's own
        stream = io.TextIOWrapper(
            raw,
            encoding or was.encoding,
            (number < 2 and errors) or was.errors,
            newline="\n" if number else None,
            line_buffering=not direct and (number == 2 or os.isatty(number)),
            write_through=direct,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    run(cast("list[str]", order["arguments"]))


def run(arguments: Sequence[str]) -> None:
    """Run a module or a file as the interpreter would; what it defines lives until that ends."""
    importlib.invalidate_caches()
    match arguments:
        case ["-m", name, *rest]:
            code, main = a_module(name)
            sys.argv[:] = [str(main.__file__), *rest]
        case ["-c", text, *rest]:
            code, main = a_text(text)
            sys.argv[:] = ["-c", *rest]
        case _:
            code, main = a_file(arguments[0])
            sys.argv[:] = arguments
    sys.modules["__main__"] = main
    exec(code, vars(main))  # as the interpreter does


def a_module(name: str) -> tuple[types.CodeType, types.ModuleType]:
    """Find the program that ``-m`` and a name mean, in this folder first."""
    sys.path[0] = os.getcwd()
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    assert spec is not None
    loader = cast("SourceFileLoader", spec.loader)
    code = loader.get_code(spec.name)
    assert code is not None
    assert spec.origin is not None
    main = types.ModuleType("__main__")
    main.__spec__, main.__loader__, main.__package__ = spec, loader, spec.parent
    main.__file__ = spec.origin
    return code, main


def a_file(name: str) -> tuple[types.CodeType, types.ModuleType]:
    """Read a program whose file is named: what is in the same folder can be imported."""
    path = os.path.abspath(name)
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = types.ModuleType("__main__")
    main.__file__, main.__loader__ = path, SourceFileLoader("__main__", path)
    return compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), main


def a_text(text: str) -> tuple[types.CodeType, types.ModuleType]:
    """Take a program as it is given: what is in the folder where it runs can be imported."""
    sys.path[0] = ""
    main = types.ModuleType("__main__")
    main.__loader__ = BuiltinImporter
    return compile(text, "<string>", "exec", dont_inherit=True), main


if __name__ == "__main__":
    serve()
