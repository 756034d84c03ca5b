"""Where keys come from: the environment, a profile or a prompt, and never an argument."""

from __future__ import annotations

import contextlib
import getpass
import os
import sqlite3
import sys
from collections.abc import Generator, Mapping, Sequence
from types import ModuleType
from typing import TypeVar

import attrs

from memories_async import sqlite
from memories_async._extras import to_install
from memories_async.cli import profiles
from memories_async.cli.exit_codes import NoKey
from memories_async.cli.interrupts import interruptible
from memories_async.cli.options import CALLING, Calling
from memories_async.cli.profiles import KeyName, Profile
from memories_async.cli.terminal.calls import CallLines
from memories_async.cli.terminal.console import console
from memories_async.client import Memories
from memories_async.config import (
    API_KEY_VARIABLE,
    BASE_URL_VARIABLE,
    CAPTION_KEY_VARIABLE,
    DOCUMENTED_RATES,
    CallOptions,
    Rate,
)
from memories_async.errors import ConfigurationError, quoted
from memories_async.limiters import Limiter, RedisLimiter, SqliteLimiter
from memories_async.limiters.sqlite import SCHEMA
from memories_async.observe import Observer
from memories_async.operations import Bucket

Client = TypeVar("Client", bound=Memories)

PROFILE_VARIABLE = "MEMORIES_PROFILE"
KEYRING_SERVICE = "memories-async"
_LONGEST_KEY = 1 << 16
"""Characters; what is piped may never end a line."""
VARIABLES: dict[KeyName, str] = {
    "api_key": API_KEY_VARIABLE,
    "caption_key": CAPTION_KEY_VARIABLE,
}


@attrs.frozen(kw_only=True)
class Account:
    """An address and the keys that belong to it, all from one place.

    Attributes:
        origin: The place, for messages.
        base_url: One address for all services, or None for the services' own.
        keys: The keys that are known.
    """

    origin: str
    base_url: str | None
    keys: dict[KeyName, str] = attrs.field(repr=False)


def account(profile: str | None) -> Account:
    """Find the account to work with.

    A profile that is named counts alone; else the environment, if it has a key; else the profile
    ``default``. Keys and address are never mixed from two places: a key must not reach a host
    that it is not for.

    Raises:
        ConfigurationError: There is no such profile, its file cannot be trusted, or the
            environment has an address to which the profile's keys do not belong.
    """
    named = profile if profile is not None else os.environ.get(PROFILE_VARIABLE)
    base_url = os.environ.get(BASE_URL_VARIABLE) or None
    in_environment: dict[KeyName, str] = {
        name: value for name, variable in VARIABLES.items() if (value := os.environ.get(variable))
    }
    if not named and in_environment:
        return Account(origin="the environment", base_url=base_url, keys=in_environment)
    known = profiles.read()
    name = named or profiles.DEFAULT
    if name not in known:
        if named:
            raise ConfigurationError(f"there is no profile {quoted(name)!r} in {profiles.path()}")
        return Account(origin="the environment", base_url=base_url, keys={})
    found = known[name]
    if base_url and base_url != found.base_url and not named:
        raise ConfigurationError(
            f"{BASE_URL_VARIABLE} is set but no key is, and the keys of profile {name!r} are for "
            f"{found.base_url or 'the real service'}: set {API_KEY_VARIABLE} or name a profile"
        )
    return Account(origin=f"profile {name!r}", base_url=found.base_url, keys=_keys_of(name, found))


def connect(
    account: Account,
    needed: KeyName,
    calling: Calling = CALLING,
    rates: Mapping[Bucket, Rate] | None = None,
) -> Memories:
    """Return a client, having asked for the key if nobody has it and someone is there.

    Args:
        account: Keys and address.
        needed: The key that the command cannot do without.
        calling: How the service is called.
        rates: The account's limits where they are not the documented ones.

    Raises:
        NoKey: There is no key and no terminal to ask at.
        ConfigurationError: The key, the address or the limiter's is malformed.
    """
    return connect_as(Memories, account, needed, calling, rates)


def connect_as(
    kind: type[Client],
    account: Account,
    needed: KeyName,
    calling: Calling = CALLING,
    rates: Mapping[Bucket, Rate] | None = None,
) -> Client:
    """Return a client of some kind; see ``connect``."""
    keys = with_key(account, needed).keys
    with _environment_hidden():
        return kind(
            keys.get("api_key"),
            caption_key=keys.get("caption_key"),
            base_url=account.base_url,
            options=CallOptions(answer_timeout=calling.answer_timeout),
            rates=rates_of(account, rates),
            limiter=limiter_at(calling.limiter),
            observers=observers_of(calling),
        )


def observers_of(calling: Calling) -> Sequence[Observer]:
    """Return who is told what each call does."""
    return [CallLines()] if calling.verbose else []


def with_key(account: Account, needed: KeyName) -> Account:
    """Return an account that has a key, asked for if nobody has it and someone is there.

    Raises:
        NoKey: There is no key and no terminal to ask at.
    """
    if needed not in account.keys:
        keys = {**account.keys, needed: prompt_for(needed, account.origin)}
        account = attrs.evolve(account, keys=keys)
    for key in account.keys.values():
        console.hide(key)
    return account


def rates_of(account: Account, rates: Mapping[Bucket, Rate] | None) -> Mapping[Bucket, Rate] | None:
    """Return an account's limits, some of which are not the documented ones."""
    if rates is None or account.base_url is not None:
        return rates
    return {**DOCUMENTED_RATES, **rates}


def limiter_at(address: str | None) -> Limiter | None:
    """Return the limiter that an option names; None for this process's own.

    Raises:
        ConfigurationError: Its package is missing, it is no address, or its file cannot be used.
    """
    if address is None:
        return None
    scheme, _, path = address.partition(":")
    if scheme == "sqlite":
        limiter = SqliteLimiter(path)
        try:
            sqlite.connect(path, SCHEMA, create_missing=True).close()
        except (ConfigurationError, OSError, sqlite3.Error) as error:
            # At once, and not by the first call of a job, nor by each.
            raise ConfigurationError(f"--limiter {address}: {error}") from None
        return limiter
    try:
        return RedisLimiter(address)
    except ImportError:
        raise ConfigurationError(f"the package redis is missing: {to_install('redis')}") from None


def prompt_for(name: KeyName, origin: str, *, piped: bool = False) -> str:
    """Ask for a key at the terminal, unseen.

    Args:
        name: Which key.
        origin: What lacks it, for messages.
        piped: Whether standard input, where it is no terminal, holds the key.

    Raises:
        ConfigurationError: What is piped is no key.
        NoKey: Nobody is there to ask, or the answer is empty.
    """
    advice = f"set {VARIABLES[name]}, or store it with: memories-async config key {name}"
    if sys.stdin.isatty():
        try:
            with interruptible():
                key = getpass.getpass(f"{name} for memories.ai (not shown): ").strip()
        except KeyboardInterrupt:
            print(file=sys.stderr)  # the prompt has left the line unfinished
            raise
    elif piped:
        key = sys.stdin.readline(_LONGEST_KEY + 1).strip()
        if len(key) > _LONGEST_KEY:
            raise ConfigurationError(f"what stands on standard input is no {name}: it is too long")
        if not key:
            raise NoKey(f"standard input has no {name}: pipe one in, or run this at a terminal")
    else:
        raise NoKey(f"{origin} has no {name}: {advice}")
    if not key:
        raise NoKey(f"no {name} given: {advice}")
    return key


def keep_in_keyring(profile: str, name: KeyName, key: str) -> None:
    """Put a key into the system's keyring.

    Raises:
        ConfigurationError: The package keyring is missing, or there is no keyring.
    """
    with _keyring() as keyring:
        keyring.set_password(KEYRING_SERVICE, f"{profile}/{name}", key)


def forget_in_keyring(profile: str) -> None:
    """Remove a profile's keys from the system's keyring.

    Raises:
        ConfigurationError: The package keyring is missing, or there is no keyring.
    """
    with _keyring() as keyring:
        for name in VARIABLES:
            if keyring.get_password(KEYRING_SERVICE, f"{profile}/{name}") is not None:
                keyring.delete_password(KEYRING_SERVICE, f"{profile}/{name}")


def _keys_of(name: str, profile: Profile) -> dict[KeyName, str]:
    in_file = {"api_key": profile.api_key, "caption_key": profile.caption_key}
    keys: dict[KeyName, str] = {}
    for key_name in VARIABLES:
        key = in_file[key_name]
        if key is None and profile.keyring:
            with _keyring() as keyring:
                key = keyring.get_password(KEYRING_SERVICE, f"{name}/{key_name}")
                if not isinstance(key, str | None):
                    raise TypeError(f"a key that is a {type(key).__name__}")
        if key:
            keys[key_name] = key
    return keys


@contextlib.contextmanager
def _keyring() -> Generator[ModuleType]:
    """Give the package keyring, and say in one line what it may complain of."""
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"the package keyring is missing: {to_install('keyring')}"
        ) from None
    try:
        yield keyring
    except keyring.errors.KeyringError as error:
        raise ConfigurationError(f"the system's keyring refused: {error}") from None
    except Exception as error:
        # A backend may be anybody's, and raise anything; what it says may repeat what it was given.
        raise ConfigurationError(
            f"the system's keyring is out of order ({type(error).__name__})"
        ) from None


@contextlib.contextmanager
def _environment_hidden() -> Generator[None]:
    """Keep a client from filling up from the environment what the account does not have."""
    names = (*VARIABLES.values(), BASE_URL_VARIABLE)
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
