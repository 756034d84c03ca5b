"""``--ray``: the same job, its calls made by the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Mapping

from memories_async._extras import to_install
from memories_async.cli.checks import LOCAL_CLUSTER
from memories_async.cli.credentials import VARIABLES, Account, observers_of
from memories_async.cli.options import Calling, Running
from memories_async.cli.terminal.console import console
from memories_async.cli.terminal.output import Output
from memories_async.client import Memories
from memories_async.config import BASE_URL_VARIABLE, Rate
from memories_async.errors import ConfigurationError
from memories_async.operations import Bucket

WORKERS = 4
"""Processes that send, at most: each of the calls in flight may be any one's."""


def refuse(running: Running, calling: Calling) -> None:
    """Refuse what does not go with ``--ray``, before anything is made or asked for.

    Raises:
        ConfigurationError: It does not, or Ray is not installed.
    """
    if running.ray is None:
        return
    if calling.limiter is not None:
        raise ConfigurationError(
            "--limiter does not go with --ray, where the workers' calls are counted by the "
            "cluster: leave it out (or MEMORIES_LIMITER)"
        )
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(f"--ray needs the package ray: {to_install('ray')}")


@contextlib.asynccontextmanager
async def caller(
    client: Memories,
    who: Account,
    rates: Mapping[Bucket, Rate] | None,
    running: Running,
    calling: Calling,
    output: Output,
) -> AsyncGenerator[Memories]:
    """Give the client that makes a job's calls: the one that is given, or a cluster's.

    Raises:
        ConfigurationError: The cluster cannot be reached, or is for another account.
    """
    if running.ray is None:
        yield client
        return
    from memories_async.ray.cluster import cluster_of

    where = "of this machine" if running.ray == LOCAL_CLUSTER else f"at {running.ray}"
    output.note(f"Ray: a cluster {where}")
    account = {VARIABLES[name]: key for name, key in who.keys.items()}
    if who.base_url is not None:
        account[BASE_URL_VARIABLE] = who.base_url
    with console.alone_on_stdout():
        async with cluster_of(
            client,
            account,
            address=running.ray,
            workers=min(running.concurrency, WORKERS),
            rates=rates,
            observers=observers_of(calling),
        ) as found:
            yield found
