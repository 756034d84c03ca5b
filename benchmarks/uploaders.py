"""One upload by one client, measured from inside its own process.

``python -m benchmarks.uploaders NAME URL FILE COUNT CERTIFICATE`` uploads FILE COUNT times at once
and prints a JSON object: CPU and wall seconds, peak memory over idle, heartbeat lateness.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

BEAT = 0.002


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak() -> None:
    """Make the kernel count the peak of memory from here on."""
    Path("/proc/self/clear_refs").write_text("5")


class Measurement:
    """Counts between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self.lateness: list[float] = []

    def start(self) -> None:
        forget_peak()
        self.idle = memory("VmRSS")
        self.cpu, self.wall = cpu_seconds(), time.perf_counter()

    def stop(self) -> None:
        self.wall = time.perf_counter() - self.wall
        self.cpu = cpu_seconds() - self.cpu
        self.peak = memory("VmHWM") - self.idle

    def report(self) -> dict[str, float]:
        late = sorted(self.lateness) or [0.0]
        return {
            "cpu": self.cpu,
            "wall": self.wall,
            "memory": self.peak / 2**20,
            "late_p50": late[len(late) // 2] * 1000,
            "late_p99": late[min(int(len(late) * 0.99), len(late) - 1)] * 1000,
        }

    async def heartbeat(self) -> None:
        while True:
            due = time.perf_counter() + BEAT
            await asyncio.sleep(BEAT)
            self.lateness.append(max(time.perf_counter() - due, 0.0))


Upload = Callable[[str, str, "ssl.SSLContext | None"], Awaitable[Callable[[], Awaitable[object]]]]


async def ours(url: str, path: str, tls: ssl.SSLContext | None) -> Callable[[], Awaitable[object]]:
    from memories_async import Memories

    client = Memories("k", caption_key="k", base_url=url, ssl_context=tls)
    await client.embeddings.image(asset_id="re_1")  # imports and the first connection are not the upload
    return lambda: client.captions.video(path, "What happens?")


async def aiohttp_formdata(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True))

    async def send() -> None:
        form = aiohttp.FormData()
        form.add_field("req", b"{}", content_type="application/json")
        with open(path, "rb") as file:
            form.add_field("files", file, filename="v.mp4", content_type="video/mp4")
            async with session.post(f"{url}/upload", data=form) as response:
                await response.read()

    return send


async def httpx_async(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import httpx

    client = httpx.AsyncClient(verify=tls or True, timeout=None)

    async def send() -> None:
        with open(path, "rb") as file:
            await client.post(f"{url}/upload", files={"files": ("v.mp4", file, "video/mp4")})

    return send


async def openai_async(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import httpx
    import openai

    client = openai.AsyncOpenAI(
        api_key="k",
        base_url=f"{url}/openai",
        http_client=httpx.AsyncClient(verify=tls or True, timeout=None),
    )

    async def send() -> None:
        with open(path, "rb") as file:
            await client.files.create(file=file, purpose="user_data")

    return send


def in_thread(send: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """A blocking client's call; it has no loop to keep alive."""

    async def call() -> object:
        return send()

    return call


async def httpx_sync(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import httpx

    client = httpx.Client(verify=tls or True, timeout=None)

    def send() -> object:
        with open(path, "rb") as file:
            return client.post(f"{url}/upload", files={"files": ("v.mp4", file, "video/mp4")})

    return in_thread(send)


async def requests_files(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import requests

    session = requests.Session()
    session.verify = sys.argv[5] if tls else True

    def send() -> object:
        with open(path, "rb") as file:
            return session.post(f"{url}/upload", files={"files": ("v.mp4", file, "video/mp4")})

    return in_thread(send)


async def requests_toolbelt(
    url: str, path: str, tls: ssl.SSLContext | None
) -> Callable[[], Awaitable[object]]:
    import requests
    from requests_toolbelt import MultipartEncoder

    session = requests.Session()
    session.verify = sys.argv[5] if tls else True

    def send() -> object:
        with open(path, "rb") as file:
            body = MultipartEncoder({"files": ("v.mp4", file, "video/mp4")})
            return session.post(
                f"{url}/upload", data=body, headers={"Content-Type": body.content_type}
            )

    return in_thread(send)


UPLOADERS: dict[str, Upload] = {
    "memories-async": ours,
    "aiohttp FormData": aiohttp_formdata,
    "httpx": httpx_sync,
    "httpx async": httpx_async,
    "openai async": openai_async,
    "requests": requests_files,
    "requests-toolbelt": requests_toolbelt,
}


async def measure(name: str, url: str, path: str, count: int, certificate: str) -> dict[str, float]:
    tls = ssl.create_default_context(cafile=certificate) if url.startswith("https") else None
    send = await UPLOADERS[name](url, path, tls)
    measurement = Measurement()
    beat = asyncio.create_task(measurement.heartbeat())
    await asyncio.sleep(0.05)
    measurement.lateness.clear()
    measurement.start()
    await asyncio.gather(*(send() for _ in range(count)))
    measurement.stop()
    beat.cancel()
    return measurement.report()


def main() -> None:
    name, url, path, count, certificate = sys.argv[1:6]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = asyncio.run(measure(name, url, path, int(count), certificate))
    print(json.dumps(report), flush=True)
    os._exit(0)  # the peers' sessions are not ours to close


if __name__ == "__main__":
    main()
