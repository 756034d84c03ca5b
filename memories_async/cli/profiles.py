"""Named profiles, each an address and its keys, in a TOML file that nobody else may read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import tomllib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import attrs

from memories_async._folders import config_folder
from memories_async.errors import ConfigurationError, quoted

KeyName: TypeAlias = Literal["api_key", "caption_key"]

DEFAULT = "default"
"""The profile that is used when none is named."""

# Windows has neither flag nor modes: there the file lies in the user's own profile folder.
# Without O_NONBLOCK a FIFO in the file's place would be waited for.
_OPEN_FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")
)
_FIELDS: Mapping[str, type] = {"base_url": str, "api_key": str, "caption_key": str, "keyring": bool}


@attrs.frozen(kw_only=True)
class Profile:
    """One profile as it is written.

    Attributes:
        base_url: One address for all services, or None for the services' own.
        api_key: The account's key, where it is in the file.
        caption_key: The captioning host's key, where it is in the file.
        keyring: Whether the system's keyring holds the keys that are not in the file.
    """

    base_url: str | None = None
    api_key: str | None = attrs.field(default=None, repr=False)
    caption_key: str | None = attrs.field(default=None, repr=False)
    keyring: bool = False


def path() -> Path:
    """Return where the file is."""
    return config_folder() / "config.toml"


def read() -> dict[str, Profile]:
    """Return all profiles by name; none if there is no file.

    Raises:
        ConfigurationError: The file is a symbolic link, open to others, or malformed.
    """
    try:
        table = tomllib.loads(_content())
    except tomllib.TOMLDecodeError as error:
        # Its text names the line but may quote what stands there.
        raise ConfigurationError(f"{path()} is no TOML: {_place(error)}") from None
    return {name: _profile(name, entry) for name, entry in table.items()}


def change(name: str, fields: Mapping[str, str | bool | None]) -> None:
    """Set fields of a profile, or remove those that are None; comments in the file stay.

    Raises:
        ConfigurationError: The file is a symbolic link, open to others, or malformed.
        OSError: It cannot be written.
    """
    import tomlkit

    with _locked():
        read()
        document = tomlkit.parse(_content())
        entry = cast("dict[str, Any]", document.setdefault(name, tomlkit.table()))
        for field, value in fields.items():
            if value is None:
                entry.pop(field, None)
            else:
                entry[field] = value
        _replace(document.as_string())


def remove(name: str) -> None:
    """Remove a profile.

    Raises:
        ConfigurationError: There is none of this name, or the file cannot be trusted.
        OSError: The file cannot be written.
    """
    import tomlkit

    with _locked():
        if name not in read():
            raise ConfigurationError(f"there is no profile {quoted(name)!r} in {path()}")
        document = tomlkit.parse(_content())
        document.remove(name)
        _replace(document.as_string())


def _profile(name: str, entry: object) -> Profile:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{path()}: {name} is outside any [profile]")
    fields = cast("dict[str, Any]", entry)
    for field, value in fields.items():
        if not isinstance(value, _FIELDS.get(field, ())):
            raise ConfigurationError(f"{path()}: [{name}] {field} is unknown or of the wrong type")
    return Profile(**fields)


def _place(error: tomllib.TOMLDecodeError) -> str:
    _, _, place = str(error).rpartition("(")
    return place.rstrip(")")


def _content() -> str:
    """Read the file, if it is a regular one that only its owner may read."""
    try:
        descriptor = os.open(path(), _OPEN_FLAGS)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _untrusted("is a symbolic link", "put the file itself there") from None
        raise ConfigurationError(f"{path()} cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _untrusted("is no regular file", "put a file there")
    with open(descriptor, encoding="utf-8") as stream:
        if os.name == "posix":
            if status.st_uid != os.geteuid():
                raise _untrusted("belongs to another user", "make it your own")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise _untrusted("is open to other users", f"run chmod 600 {path()}")
        try:
            return stream.read()
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path()} is no TOML: it is not UTF-8") from None


@contextlib.contextmanager
def _locked() -> Generator[None]:
    """Let nobody else change the file between our reading and our writing.

    The lock is on the folder: the file itself is replaced by each change. Windows has no such
    lock; there the last of two changes at the same instant counts.
    """
    folder = path().parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(content: str) -> None:
    """Put a new file in the place of the old one, so that a reader sees either, whole."""
    target = path()
    if target.is_symlink():
        raise _untrusted("is a symbolic link", "put the file itself there")
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".config-")  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _untrusted(what: str, cure: str) -> ConfigurationError:
    return ConfigurationError(f"{path()} {what}, so the keys in it are not used: {cure}")
