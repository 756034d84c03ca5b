"""Fixtures: a real Redis for the module, and each store in turn."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.limits.homes import SERVER, Home, InMemory, InRedis, InSqlite, redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SERVER is None:
        pytest.skip("there is neither redis-server nor valkey-server on this machine")
    importlib.import_module("redis")  # takes longer than a test lets the loop stand still
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    match request.param:
        case "redis":
            return InRedis(str(request.getfixturevalue("redis_url")))
        case "sqlite":
            return InSqlite(tmp_path / "counts.sqlite")
        case _:
            return InMemory()


@pytest.fixture
async def one_worker() -> AsyncIterator[None]:
    """Let the loop have one worker thread, so that what is queued last runs last."""
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        yield
