"""Asked 100, paid N: clients against a server that loses some of its answers, and what that costs.

Every whole request is billed, whatever becomes of its answer. Each client is used with its default
settings, as its own documentation shows the call.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import orjson

from benchmarks.process import Sample
from benchmarks.rounds import ROOT
from benchmarks.sink import content_length

SIZE = 1 << 20
"""Bytes of one request: more than fits into the buffers between two processes at once."""
AT_ONCE = 16
LOSES, RESETS = 0.03, 0.03
NOT_INSTALLED = 3
"""The exit status that says so."""
CHUNK = 16 * 1024
_NUMBER = re.compile(rb"ask-(\d{6})")
_ANSWER = orjson.dumps(
    {
        # One answer that says to each client what it wants to hear.
        "code": 200,
        "msg": "success",
        "success": True,
        "failed": False,
        "data": {"embedding": [0.5, 0.25]},
        "embeddings": [{"values": [0.5, 0.25]}],
        "embedding": {"values": [0.5, 0.25]},
        "model_name": "m",
        "metadata": {},
    }
)
_OPENAI_ANSWER = orjson.dumps(
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "model": "m",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
)


class LossyServer:
    """Bills every request that it has whole, loses some answers, and resets some requests midway.

    Args:
        loses: Share of the answers that are lost after the work was done.
        resets: Share of the requests whose connection is reset before they are whole.
        seed: Which of them: the same for every client.
    """

    def __init__(self, loses: float, resets: float, seed: int) -> None:
        self.paid: Counter[int] = Counter()
        self._loses, self._resets = loses, resets
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._listening = socket.socket()
        # Before listening: a connection inherits it, and what was not read is not yet sent.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while self._answer_one(connection):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def _answer_one(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (more := connection.recv(CHUNK)):
                return False
            received += more
        with self._lock:
            drawn = self._chance.random()
        head, _, start = received.partition(b"\r\n\r\n")
        body, length = bytearray(start), content_length(head)
        until = length // 4 if drawn < self._resets else length
        while len(body) < until or (not length and not body.endswith(b"0\r\n\r\n")):
            if not (more := connection.recv(CHUNK)):
                return False
            body += more
        if drawn < self._resets:
            return self._reset(connection)
        found = _NUMBER.search(body)
        assert found, "every request says which it is"
        with self._lock:
            self.paid[int(found[1])] += 1
        if drawn < self._resets + self._loses:
            return self._reset(connection)
        answer = _OPENAI_ANSWER if b"/openai" in head.split(b"\r\n", 1)[0] else _ANSWER
        fields = f"Content-Type: application/json\r\nContent-Length: {len(answer)}"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + answer)
        return True

    def _reset(self, connection: socket.socket) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


Ask = Callable[[int], Awaitable[object]]


def text_of(number: int) -> str:
    return f"ask-{number:06d} ".ljust(SIZE, ".")


def image_of(number: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + text_of(number).encode()


def memories_async(url: str) -> Ask:
    from memories_async import Memories

    client = Memories("key", base_url=url)
    return lambda number: client.embeddings.image(image_of(number))


def openai(url: str) -> Ask:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="key", base_url=f"{url}/openai")
    return lambda number: client.embeddings.create(
        model="m", input=text_of(number), encoding_format="float"
    )


def google_genai(url: str) -> Ask:
    from google import genai

    options = genai.types.HttpOptions(base_url=url)
    client = genai.Client(api_key="key", http_options=options)
    return lambda number: client.aio.models.embed_content(model="m", contents=text_of(number))


def twelvelabs(url: str) -> Ask:
    from twelvelabs import AsyncTwelveLabs

    client = AsyncTwelveLabs(api_key="key", base_url=url)
    return lambda number: client.embed.create(model_name="m", text=text_of(number))


def httpx_and_tenacity(url: str) -> Ask:
    import httpx
    from tenacity import retry

    client = httpx.AsyncClient(timeout=60)

    @retry
    async def ask(number: int) -> object:
        response = await client.post(url, files={"file": image_of(number)})
        return response.raise_for_status().json()

    return ask


def requests_and_retry(url: str) -> Ask:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3), pool_maxsize=AT_ONCE))

    def ask(number: int) -> object:
        response = session.post(url, files={"file": image_of(number)}, timeout=60)
        response.raise_for_status()
        return response.json()

    return lambda number: asyncio.to_thread(ask, number)


def aiohttp_by_hand(url: str) -> Ask:
    import aiohttp

    session = aiohttp.ClientSession()

    async def ask(number: int) -> object:
        for attempt in range(3):
            form = aiohttp.FormData()
            form.add_field("file", image_of(number), filename="a.png")
            try:
                async with session.post(url, data=form) as response:
                    response.raise_for_status()
                    return await response.json()
            except aiohttp.ClientError:
                if attempt == 2:
                    raise
                await asyncio.sleep(0.1)
        return None

    return ask


PEERS: dict[str, Callable[[str], Ask]] = {
    "memories-async": memories_async,
    "openai": openai,
    "google-genai": google_genai,
    "twelvelabs": twelvelabs,
    "httpx + tenacity": httpx_and_tenacity,
    "requests + Retry": requests_and_retry,
    "aiohttp, a loop of three": aiohttp_by_hand,
}


@attrs.frozen
class Outcome:
    """What became of so many asks."""

    asked: int
    results: int
    paid: Counter[int]
    errors: Counter[str]

    def sample(self) -> Sample:
        """Say it per 100 asked."""
        per = 100 / self.asked
        twice = sum(count - 1 for count in self.paid.values())
        warned = self.errors["OutcomeUnknown"] + self.errors["AnswerTimeout"]
        return {
            "paid": self.paid.total() * per,
            "results": self.results * per,
            "twice": twice * per,
            "failed": self.errors.total() * per,
            "warned": warned * per,
        }


async def outcome_of(
    make: Callable[[str], Ask], asked: int, loses: float, resets: float, seed: int
) -> Outcome:
    """Ask so often, so many at once, and count what was paid.

    Raises:
        ImportError: The client is not installed.
    """
    server = LossyServer(loses, resets, seed)
    ask = make(server.url)
    numbers = iter(range(asked))
    results, errors = 0, Counter[str]()

    async def worker() -> None:
        nonlocal results
        for number in numbers:
            try:
                await ask(number)
                results += 1
            except Exception as error:
                errors[type(error).__name__] += 1

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    server.close()
    return Outcome(asked, results, server.paid, errors)


def run_peer(name: str, asked: int, seed: int = 1) -> Sample:
    """Ask so often with one client, in a process of its own.

    Raises:
        ImportError: It is not installed.
    """
    arguments = [name, str(asked), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lost_answers", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_INSTALLED:
        raise ImportError(name)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    sample: Sample = json.loads(done.stdout)
    return sample


def main() -> None:
    """Run the peer that the arguments name, and print its sample as JSON."""
    name, asked, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        outcome = asyncio.run(outcome_of(PEERS[name], asked, LOSES, RESETS, seed))
    except ImportError:
        os._exit(NOT_INSTALLED)
    print(json.dumps(outcome.sample()), flush=True)
    os._exit(0)  # the peers' sessions are not ours to close


if __name__ == "__main__":
    main()
