"""memories-async config: addresses and keys in named profiles, in a file that is yours alone."""

from __future__ import annotations

import os
from typing import Literal

from cyclopts import App

from memories_async.cli import profiles
from memories_async.cli.credentials import (
    PROFILE_VARIABLE,
    VARIABLES,
    forget_in_keyring,
    keep_in_keyring,
    prompt_for,
)
from memories_async.cli.exit_codes import Exit
from memories_async.cli.options import SHARED, Shared
from memories_async.cli.profiles import KeyName
from memories_async.cli.terminal.output import Output
from memories_async.client import Memories
from memories_async.secret import Secret

app = App(name="config", help="Keep addresses and keys in named profiles.")


@app.command
def key(name: KeyName, /, *, keyring: bool = False, shared: Shared = SHARED) -> int:
    """Store a key, asked for at the terminal or read from a pipe.

    Args:
        name: Which key: the account's, or the one of the captioning host.
        keyring: Store it in the system's keyring instead of the file.
        shared: What every command understands.
    """
    profile = _name(shared)
    value = prompt_for(name, f"profile {profile!r}", piped=True)
    Memories(value)  # refuses what no header can carry, before it is stored
    if keyring:
        keep_in_keyring(profile, name, value)
        profiles.change(profile, {name: None, "keyring": True})
    else:
        profiles.change(profile, {name: value})
    Output.of(shared).note(f"{name} of profile {profile!r} is stored")
    return Exit.DONE


@app.command(name="set")
def set_(name: Literal["base_url"], value: str, /, *, shared: Shared = SHARED) -> int:
    """Set what is no secret.

    Args:
        name: base_url is one address for all services: the emulator, a gateway.
        value: The address; empty for the services' own.
        shared: What every command understands.
    """
    Memories("unused", base_url=value)  # refuses what is no address
    profiles.change(_name(shared), {name: value or None})
    return Exit.DONE


@app.command
def show(*, shared: Shared = SHARED) -> int:
    """Show the profiles; of keys, no more than tells them apart.

    Args:
        shared: What every command understands.
    """
    output = Output.of(shared)
    found = profiles.read()
    for name, profile in found.items():
        row: dict[str, object] = {"profile": name, "base_url": profile.base_url}
        for field in VARIABLES:
            row[field] = _masked(getattr(profile, field), field)
        row["keyring"] = profile.keyring
        parts = [f"{field}={value}" for field, value in row.items() if value and field != "profile"]
        output.result(row, f"{name}: {' '.join(parts) or 'empty'}")
    if not found:
        output.note(f"there are no profiles in {profiles.path()}")
    return Exit.DONE


@app.command
def remove(profile: str, /, *, shared: Shared = SHARED) -> int:
    """Remove a profile and its keys.

    Args:
        profile: Its name.
        shared: What every command understands.
    """
    if (found := profiles.read().get(profile)) and found.keyring:
        forget_in_keyring(profile)
    profiles.remove(profile)
    Output.of(shared).note(f"profile {profile!r} is removed")
    return Exit.DONE


@app.command
def path(*, shared: Shared = SHARED) -> int:
    """Print where the file is.

    Args:
        shared: What every command understands.
    """
    place = str(profiles.path())
    Output.of(shared).result({"path": place}, place)
    return Exit.DONE


def _name(shared: Shared) -> str:
    return shared.profile or os.environ.get(PROFILE_VARIABLE) or profiles.DEFAULT


def _masked(key: str | None, name: KeyName) -> str | None:
    if key is None:
        return None
    return repr(Secret(key, VARIABLES[name])).removeprefix("Secret('").removesuffix("')")
