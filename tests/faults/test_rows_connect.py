"""Rows 1 to 11: what goes wrong before a byte is sent, and so costs nothing to try again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import aiohttp.connector
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from memories_async import (
    Bucket,
    CallOptions,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    DnsError,
    Memories,
    MemoriesError,
    Rate,
    RateLimited,
    TlsError,
)
from memories_async.emulator import Hang
from memories_async.emulator import InjectedFault as Fault
from memories_async.limiters import MemoryLimiter
from tests.faults.conftest import (
    Stage,
    caption,
    failure_of,
    port_of,
    stored_video,
    until,
)
from tests.faults.proxy import Plan, Proxy

pytestmark = pytest.mark.anyio

CAPTIONS_IMAGE = "captions.image (POST /v1/understand/uploadImgFile)"


class FakeResolver(AbstractResolver):
    """Fails so many times, then finds everything on loopback."""

    failures = 0
    asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        type(self).asked += 1
        if self.asked <= self.failures:
            raise OSError(-2, "Name or service not known")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None: ...


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> type[FakeResolver]:
    class Resolver(FakeResolver):
        pass

    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda *_, **__: Resolver())
    return Resolver


def assert_nothing_sent(error: MemoriesError, attempts: int) -> None:
    assert error.attempts == attempts
    assert error.operation == CAPTIONS_IMAGE
    assert "nothing billed" in str(error) or "Nothing was sent" in str(error)


async def test_row_01_a_name_that_resolves_at_the_third_try(
    stage: Stage, resolver: type[FakeResolver]
) -> None:
    resolver.failures = 2
    result = await stage.client().captions.image(b"\x89PNG\r\n\x1a\n", "what")
    assert result.attempts == 3
    assert stage.clock.slept == [0.5, 1.0]
    await stage.saw(requests=1, billed=1)


async def test_row_02_a_name_that_never_resolves(
    stage: Stage, resolver: type[FakeResolver]
) -> None:
    resolver.failures = 99
    error = await failure_of(caption(stage.client()))
    assert type(error) is DnsError
    assert_nothing_sent(error, attempts=5)
    assert stage.clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert resolver.asked == 5
    await stage.saw(requests=0, billed=0)


async def test_row_02_a_free_read_says_the_same(stage: Stage, resolver: type[FakeResolver]) -> None:
    resolver.failures = 99
    error = await failure_of(stage.client().library.video("VI1"))
    assert type(error) is DnsError
    assert error.attempts == 5
    await stage.saw(requests=0, billed=0)


async def test_row_02_backoff_stays_within_its_budget(
    stage: Stage, resolver: type[FakeResolver]
) -> None:
    resolver.failures = 99
    error = await failure_of(caption(stage.client(), CallOptions(attempts=50)))
    assert isinstance(error, DnsError)
    assert sum(stage.clock.slept) <= 120
    assert max(stage.clock.slept) <= 32
    await stage.saw(requests=0, billed=0)


async def test_row_03_refused_twice(stage: Stage) -> None:
    proxy = Proxy(port_of(stage.emulator.url))  # bound and not yet listening

    stage.clock.on_sleep = lambda number: proxy.start() if number == 2 else None
    client = stage.client(base_url=f"http://127.0.0.1:{proxy.port}")
    result = await client.captions.image(b"\x89PNG\r\n\x1a\n", "what")
    assert result.attempts == 3
    await stage.saw(requests=1, billed=1)
    await client.aclose()
    await proxy.stop()


async def test_row_03_refused_for_ever(stage: Stage) -> None:
    proxy = Proxy(0)
    error = await failure_of(caption(stage.client(base_url=f"http://127.0.0.1:{proxy.port}")))
    assert type(error) is ConnectError
    assert_nothing_sent(error, attempts=5)
    await stage.saw(requests=0, billed=0)
    await proxy.stop()


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose connections are never established: its queue of two is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        yield port
        for connection in waiting:
            connection.close()


async def test_row_04_a_black_hole(stage: Stage, black_hole: int) -> None:
    client = stage.client(base_url=f"http://127.0.0.1:{black_hole}")
    error = await failure_of(caption(client, CallOptions(connect_timeout=0.05, attempts=3)))
    assert type(error) is ConnectTimeout
    assert isinstance(error, TimeoutError)
    assert_nothing_sent(error, attempts=3)
    await stage.saw(requests=0, billed=0)


AUTHORITY = trustme.CA()


def tls_server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def tls_client() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


BAD_CERTIFICATES = {
    "expired": AUTHORITY.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)),
    "self-signed": trustme.CA().issue_cert("localhost"),
    "wrong name": AUTHORITY.issue_cert("elsewhere.example"),
}


@pytest.mark.parametrize("trouble", BAD_CERTIFICATES)
async def test_row_06_a_certificate_that_cannot_be_trusted(stage: Stage, trouble: str) -> None:
    context = tls_server(BAD_CERTIFICATES[trouble])
    async with Proxy(port_of(stage.emulator.url), tls=context) as proxy:
        client = stage.client(base_url=f"https://localhost:{proxy.port}", ssl_context=tls_client())
        error = await failure_of(caption(client))
        assert type(error) is TlsError
        assert_nothing_sent(error, attempts=1)
        assert proxy.received == 0
        await client.aclose()
    assert stage.clock.slept == []
    await stage.saw(requests=0, billed=0)


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("at", [Plan(request=20), Plan(answer=0), Plan(answer=100)])
async def test_row_07_a_handshake_that_is_cut(stage: Stage, at: Plan, how: str) -> None:
    import attrs

    context = tls_server(AUTHORITY.issue_cert("localhost"))
    async with (
        Proxy(port_of(stage.emulator.url), tls=context) as front,
        Proxy(front.port) as proxy,
    ):
        proxy.plans.append(attrs.evolve(at, how=how))
        client = stage.client(base_url=f"https://localhost:{proxy.port}", ssl_context=tls_client())
        result = await client.captions.image(b"\x89PNG\r\n\x1a\n", "what")
        assert result.attempts == 2
        assert proxy.connections == 2
        await client.aclose()
    await stage.saw(requests=1, billed=1)


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.5", "http://memories.ai", "http://localhost.memories.ai", "ftp://localhost"],
)
async def test_row_09_no_key_goes_out_in_the_clear(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Memories("key", base_url=address)


async def test_row_10_a_full_pool_waits(stage: Stage) -> None:
    stage.emulator.faults.add(Fault("captions.image", Hang()))
    client = stage.client(max_connections=1)
    occupant = asyncio.create_task(caption(client))
    await until(lambda: stage.emulator.ledger)
    error = await failure_of(caption(client, CallOptions(deadline=0.5)))
    assert type(error) is DeadlineExceeded
    assert error.attempts == 1
    assert "after 0 of" in str(error)
    assert stage.proxy.connections == 1
    occupant.cancel()
    await asyncio.wait([occupant])
    await caption(client)  # the place is free again
    await until(lambda: stage.emulator.ledger.billed() == 1)
    assert len(stage.emulator.ledger) == 2


async def test_row_11_a_turn_that_comes_too_late_is_refused_at_once(stage: Stage) -> None:
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(1, 60)}, limiter=MemoryLimiter())
    await caption(client)
    await stage.clock.sleep(1)
    before = stage.clock.now
    error = await failure_of(caption(client, CallOptions(deadline=10)))
    assert type(error) is RateLimited
    assert error.retry_after == pytest.approx(59, abs=0.1)
    assert error.attempts == 0  # it was not even begun
    assert stage.clock.now == before
    await stage.saw(requests=1, billed=1)


async def test_row_11_a_free_read_of_another_bucket_does_not_wait(stage: Stage) -> None:
    video_no = await stored_video(stage)
    client = stage.client(rates={Bucket.CAPTION_IMAGE: Rate(1, 60)}, limiter=MemoryLimiter())
    await caption(client)
    before = stage.clock.now
    await client.library.video(video_no)
    assert stage.clock.now == before
    await stage.saw(requests=2, billed=1)
