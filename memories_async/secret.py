"""Keys: shown to nobody, looked up anew where a pickle is loaded, hidden in what comes back."""

from __future__ import annotations

import base64
import functools
import os
import re

from memories_async.errors import ConfigurationError


class Secret:
    """A key that shows itself to nobody but ``reveal``, and that no pickle carries."""

    __slots__ = ("_value", "_variable")

    def __init__(self, value: str, variable: str) -> None:
        self._value = value
        self._variable = variable

    def reveal(self) -> str:
        """Return the key, for the header of a request to its own service and nothing else."""
        return self._value

    def hide(self, data: bytes) -> bytes:
        """Return what came back without the key, which a gateway may have echoed into it."""
        if len(self._value) <= 8:
            return data  # a key of a few letters, as tests use, would take words apart
        # Bytes are asked for single ones by number: where the question is itself bytes, Python
        # first fails to read it as a number, which costs ten times as much as to look.
        for rare, spelled in _written(self._value):
            if rare in data:
                for written in spelled:
                    data = data.replace(written, _MASK)
        # Echoed in JSON, a URL or a page, any of its characters may be spelled in another way. Of
        # a token of 2,000 characters the whole pattern takes a second to compile.
        if _is_escaped(data) and _spellings(self._value[:_PART]).search(data):
            data = _spellings(self._value).sub(_MASK, data)
        # Refusals are short; of what is long, a vector above all, each search costs time.
        if len(data) > _LONGEST_REFUSAL or len(self._value) < _LONG_KEY:
            return data
        lower = data.lower()
        for whole in _both_ways(self._value):
            if lower.find(whole[:_PART]) >= 0:
                data = _without_beginnings(whole, data)
                lower = data.lower()
        return data

    def __repr__(self) -> str:
        return (
            f"Secret('{self._value[:3]}…{self._value[-4:]}')"
            if len(self._value) > 16
            else "Secret('…')"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        # Where the pickle is loaded, the key is looked up again: it never travels.
        return secret_from_environment, (self._variable,)


_MASK = "…".encode()
_UNSEEN = tuple("\u200b \u200c \u200d \u2060 \ufeff \u00ad".encode().split())
"""Characters that nobody sees, and that may stand between those of a key."""
_BACKSLASH, _PERCENT, _AMPERSAND, _NUL = b"\\%&\0"
"""One of them stands in any other spelling of a character."""
_FIRST_OF_UNSEEN = bytes({unseen[0] for unseen in _UNSEEN})
_LONGEST_REFUSAL = 8192
_LONG_KEY = 16
"""A shorter key may have words in it: parts of it are not looked for."""
_PART = 8
"""So many first characters of a key are as good as the key, to who has seen the rest elsewhere."""


@functools.lru_cache(maxsize=16)
def _written(key: str) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    """Return a key as it is, in base 16, and in base 64, wherever in what was packed it stood.

    Before those that share it stands a character that vectors do not have: to look for that one
    first takes an eighth of the time.
    """
    whole = key.encode()
    written = [whole, whole.hex().encode(), whole.hex().upper().encode()]
    for before in range(3):
        some = base64.b64encode(bytes(before) + whole)
        # The characters at either end hold bits of what stood beside it.
        some = some[-(-before * 8 // 6) : (before + len(whole)) * 8 // 6]
        written += [some, some.translate(bytes.maketrans(b"+/", b"-_"))]
    by_rare: dict[int, list[bytes]] = {}
    for some in dict.fromkeys(written):
        letters = [letter[0] for letter in re.findall(rb"[A-DF-Zjkqv-z]", some)] or [some[0]]
        rare = next((letter for letter in letters if letter in by_rare), letters[0])
        by_rare.setdefault(rare, []).append(some)
    return tuple((rare, tuple(spelled)) for rare, spelled in by_rare.items())


@functools.lru_cache(maxsize=16)
def _both_ways(key: str) -> tuple[bytes, bytes]:
    """Return a key in lower case, as it is and from its end."""
    lower = key.lower().encode()
    return lower, lower[::-1]


@functools.lru_cache(maxsize=32)
def _spellings(key: str) -> re.Pattern[bytes]:
    """Match a key of which any character may be escaped, as JSON, URLs, HTML and programs do it.

    Between them may be NULs, as UTF-16 looks to who reads it as bytes, and what nobody sees.
    """
    from html.entities import html5  # late: few answers hold what may be an escape

    def spelled(character: str) -> str:
        number = ord(character)
        digits = "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{number:02x}")
        itself = re.escape(character)
        names = "".join(
            f"|{name}" for name, meant in html5.items() if meant == character and name[-1] == ";"
        )
        escape = rf"{itself}|u00{digits}|u\{{0*{digits}\}}|x{digits}|{number:03o}"
        entity = rf"#(?:0*{number}|[xX]0*{digits});{names}"
        return rf"(?:{itself}|\\{{1,4}}(?:{escape})|%(?:25)*{digits}|&(?:{entity}))"

    between = rb"(?:\0|\\{1,4}u(?:200[b-dB-D]|2060|[fF][eE][fF][fF]|00[aA][dD])|%s)*"
    between %= b"|".join(_UNSEEN)
    return re.compile(between.join(spelled(character).encode() for character in key))


def _is_escaped(data: bytes) -> bool:
    """Tell whether there are characters that are spelled in another way, or that nobody sees."""
    if _BACKSLASH in data or _PERCENT in data or _AMPERSAND in data or _NUL in data:
        return True
    for first in _FIRST_OF_UNSEEN:
        if first in data:
            return any(data.find(unseen) >= 0 for unseen in _UNSEEN)
    return False


def _without_beginnings(whole: bytes, data: bytes) -> bytes:
    """Mask a key that was cut, whatever its letters' case: its beginning, as long as it goes.

    Args:
        whole: The key in lower case.
        data: What holds it.
    """
    lower = data.lower()
    kept: list[bytes] = []
    end = 0
    while (start := lower.find(whole[:_PART], end)) >= 0:
        kept += [data[end:start], _MASK]
        end = start + _shared(whole, lower[start : start + len(whole)])
    return b"".join([*kept, data[end:]])


def _shared(one: bytes, other: bytes) -> int:
    """Return how many first bytes are the same in both."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def secret_from_environment(variable: str) -> Secret | None:
    """Return the key that an environment variable holds, or None."""
    return checked_secret(os.environ.get(variable), variable)


def checked_secret(value: str | None, variable: str) -> Secret | None:
    """Return a key as a header can carry it, or None where nothing was given.

    Raises:
        ConfigurationError: It has spaces or characters that no header can carry.
    """
    value = (value or "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            f"the key for {variable} has spaces or characters that no header can carry; "
            "pass the bare key, without 'Bearer'"
        )
    return Secret(value, variable)
