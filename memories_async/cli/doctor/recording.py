"""Where the doctor's calls go: to the service, to it by way of a recorder, or to a recording."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Final

import attrs

from memories_async.cli.credentials import Account
from memories_async.errors import ConfigurationError

NOTE: Final = "doctor.txt"
"""What a recording has beside its answers: what was asked is made again from it."""
_ADDRESSES: Final = ("image_url", "video_url")
_ANY: Final = {"callback_url": "https://callbacks.invalid/"}
"""A callback's address is no part of what is recorded, so any will do."""


@attrs.frozen(kw_only=True)
class Destination:
    """Where calls go, and of what they are made.

    Attributes:
        account: Address and keys.
        seed: What the media are made of: the same seed makes the same ones.
        addresses: What else the calls need: public addresses, by their options' names.
    """

    account: Account
    seed: int
    addresses: Mapping[str, str]


@contextlib.asynccontextmanager
async def recorded(
    account: Account, addresses: Mapping[str, str], folder: str | None
) -> AsyncGenerator[Destination, None]:
    """Let calls go to the service, and keep its answers in an empty folder if one is named."""
    there = Destination(account=account, seed=time.time_ns() % 2**32, addresses=addresses)
    if folder is None:
        yield there
        return
    from memories_async.emulator import Emulator  # late: it is a server

    _write(Path(folder), there)
    async with Emulator(record=folder, upstream=account.base_url) as recorder:
        yield attrs.evolve(there, account=attrs.evolve(account, base_url=recorder.url))


@contextlib.asynccontextmanager
async def replayed(folder: str) -> AsyncGenerator[Destination, None]:
    """Let the same calls go to what was recorded of them: without keys, network and bill.

    Raises:
        ConfigurationError: The folder holds no recording of the doctor's.
    """
    from memories_async.emulator import Emulator  # late: it is a server

    asked = _read(Path(folder))
    try:
        emulator = await Emulator(replay=folder).__aenter__()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--replay: {error}") from None
    try:
        account = Account(
            origin=folder,
            base_url=emulator.url,
            keys={"api_key": "recorded", "caption_key": "recorded"},
        )
        addresses = {name: asked[name] for name in _ADDRESSES if name in asked} | _ANY
        yield Destination(account=account, seed=int(asked["seed"]), addresses=addresses)
    finally:
        await emulator.__aexit__(None, None, None)


def make_empty(folder: Path) -> None:
    """Make a folder for a recording, or take one that is empty.

    Raises:
        ConfigurationError: It cannot be made, or something is in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"--record: {error}") from None
    if full:
        raise ConfigurationError(f"--record: {folder} is not empty; a new folder is wanted")


def _write(folder: Path, there: Destination) -> None:
    # An address with a query or a login may be a permission: it is not kept.
    kept = {
        name: address
        for name in _ADDRESSES
        if (address := there.addresses.get(name)) and not {"?", "#", "@"} & {*address}
    }
    lines = [f"{name} {value}\n" for name, value in {"seed": there.seed, **kept}.items()]
    (folder / NOTE).write_text("".join(lines), encoding="utf-8")


def _read(folder: Path) -> Mapping[str, str]:
    try:
        lines = (folder / NOTE).read_text(encoding="utf-8").splitlines()
        asked = {name: value for name, _, value in (line.partition(" ") for line in lines)}
        int(asked["seed"])
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(
            f"--replay: {folder} holds nothing that memories-async doctor --live --record wrote"
        ) from None
    return asked
