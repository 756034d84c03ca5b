"""Texts compared by their words: enough to find one by another, without understanding either."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator

_WORD = re.compile(r"[^\W_]+")
# Words that nearly every question has and no answer turns on.
_IDLE = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "how"),
        *("in", "is", "it", "its", "of", "on", "or", "some", "that", "the", "there", "this", "to"),
        *("was", "were", "what", "when", "where", "which", "who", "with"),
    )
)
_TRIGRAM_WEIGHT = 0.3


def word_overlap(query: str, text: str) -> float:
    """Return the share of the query's words that the text has, from 0 to 1."""
    wanted = set(_words(query))
    return len(wanted & set(_words(text))) / len(wanted) if wanted else 0.0


def text_embedding(text: str, length: int) -> list[float]:
    """Return a unit vector that is near for texts of similar words.

    Words and their trigrams are hashed to places in the vector (Weinberger et al., 2009), so that
    "meadow" and "meadows" still have most of it in common.
    """
    values = [0.0] * length
    for feature, weight in _features(text):
        digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest())
        values[(digest >> 1) % length] += weight if digest & 1 else -weight
    size = math.sqrt(math.fsum(value * value for value in values))
    return [round(value / size, 8) for value in values] if size else [1.0] + [0.0] * (length - 1)


def _features(text: str) -> Iterator[tuple[str, float]]:
    for word in _words(text):
        yield word, 1.0
        padded = f" {word} "
        for start in range(len(padded) - 2):
            yield padded[start : start + 3], _TRIGRAM_WEIGHT


def _words(text: str) -> list[str]:
    """Return the words that matter, lower case, without the plural's ending."""
    found = _WORD.findall(text.casefold())
    return [_singular(word) for word in found if word not in _IDLE] or found


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
