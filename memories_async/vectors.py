"""Numbers of an embedding as float32 in one buffer: what numpy reads without a copy."""

from __future__ import annotations

import functools
import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, Self, SupportsIndex, cast, overload

from memories_async.checks import checked

if TYPE_CHECKING:
    _Float32 = array[float]
else:  # subscriptable from Python 3.12 on
    _Float32 = array

_SHOWN = 2
_NOT_FINITE = "the vector holds something that is no finite number"
_HIGH = 3 if sys.byteorder == "little" else 0
"""Where of the four bytes of a float32 the one with its sign and most of its exponent stands."""
_HIGH_OF_HUGE = (0x7F, 0xFF)
"""What that byte is of infinities and NaN, and of numbers from 1.7e38 on."""
_HIGH_OF_BOOL = (0x00, 0x3F)
"""What that byte is of 0.0 and 1.0, as False and True are packed, and of numbers near them."""


class Vector(_Float32):
    """Numbers as float32 in one buffer: 5,632 bytes for 1,408 of them.

    It is a sequence of floats that has no way to change it, equals a list of the same numbers, and
    has the buffer protocol: ``numpy.asarray(vector)`` and ``memoryview(vector)`` copy nothing, so
    that what is written to them changes the vector. ``numpy.array(vector)`` makes a copy to work
    on, ``vector.tolist()`` a plain list.

    Args:
        numbers: The numbers; each is rounded to the nearest float32.
    """

    __slots__ = ()

    @checked
    def __new__(cls, numbers: Iterable[float] = ()) -> Self:  # noqa: D102  # the class says it
        # From an array the buffer is copied at its exact size; from a list number by number.
        made = super().__new__(cls, "f", numbers if isinstance(numbers, array) else list(numbers))
        return cast("Self", made)

    @classmethod
    def read(cls, numbers: Sequence[object]) -> Vector:
        """Make a vector of what an answer holds.

        Args:
            numbers: What the answer holds.

        Raises:
            ValueError: It is empty, or holds something that is no finite number.
        """
        if not numbers:
            raise ValueError("the vector is empty")
        # Packing is a third of the cost of making an array of the list, number by number; and to
        # look at one byte of each packed number costs a tenth of looking at the numbers.
        try:
            packed = _float32s(len(numbers)).pack(*numbers)  # too large is an error
        except (struct.error, OverflowError):
            raise ValueError(_NOT_FINITE) from None
        high = packed[_HIGH::4]
        made = _from_bytes(packed)
        huge, infinite = _HIGH_OF_HUGE
        if (huge in high or infinite in high) and not all(map(math.isfinite, made)):
            raise ValueError(_NOT_FINITE)
        # To Python True is a number, and packs as one: only then are the types looked at.
        false, true = _HIGH_OF_BOOL
        if (false in high or true in high) and bool in map(type, numbers):
            raise ValueError(_NOT_FINITE)
        return made

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> float: ...
    @overload
    def __getitem__(self, index: slice, /) -> Vector: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> float | Vector:
        found = super().__getitem__(index)
        return _of(found) if isinstance(found, array) else found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | tuple):
            try:
                other = array("f", cast("list[float]", other))
            except (TypeError, OverflowError):
                return False
        return super().__eq__(other)

    __hash__ = None  # as a list of the same numbers has none

    def __repr__(self) -> str:
        return f"Vector({self.summary()})"

    def summary(self) -> str:
        """Return how many numbers there are and the first of them."""
        shown = [str(round(number, 4)) for number in self[:_SHOWN].tolist()]
        dots = ["…"] if len(self) > _SHOWN else []
        return f"{len(self)} numbers: {', '.join(shown + dots)}" if shown else "no numbers"

    def __rich_repr__(self) -> Iterable[object]:
        yield _Unquoted(self.summary())

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[object, ...]:
        return _from_bytes, (self.tobytes(),)

    def __copy__(self) -> Vector:
        return self

    def __deepcopy__(self, memo: object, /) -> Vector:
        return self

    def _refuse(self, *_: object) -> NoReturn:
        """Refuse: a vector cannot be changed."""
        raise TypeError("a Vector cannot be changed: use tolist()")

    append = extend = insert = pop = remove = reverse = byteswap = _refuse
    fromlist = frombytes = fromfile = fromunicode = clear = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class _Unquoted(str):
    """Text that shows itself without quotes, where rich prints a repr."""

    __slots__ = ()

    __repr__ = str.__str__


@functools.lru_cache(maxsize=16)
def _float32s(count: int) -> struct.Struct:
    """Return what packs so many; beside a format, their list would be copied once more."""
    return struct.Struct(f"{count}f")


def _from_bytes(packed: bytes) -> Vector:
    return _of(array("f", packed))


def _of(numbers: array[float]) -> Vector:
    """Make a vector of what is one."""
    return cast("Vector", _Float32.__new__(Vector, "f", numbers))
