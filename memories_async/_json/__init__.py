"""JSON read and written: by orjson, or by the standard library where orjson is not to be had.

There is no wheel of orjson for free-threaded builds of CPython. Both ways take and give the same,
so that what was kept by one is read by the other: tests/test_json.py compares them.

May import nothing of the package.
"""

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from orjson import (
        OPT_PASSTHROUGH_DATETIME,
        OPT_SORT_KEYS,
        JSONDecodeError,
        dumps,
        loads,
    )
else:
    try:
        from orjson import (
            OPT_PASSTHROUGH_DATETIME,
            OPT_SORT_KEYS,
            JSONDecodeError,
            dumps,
            loads,
        )
    except ImportError:
        from memories_async._json.standard import (
            OPT_PASSTHROUGH_DATETIME,
            OPT_SORT_KEYS,
            JSONDecodeError,
            dumps,
            loads,
        )

__all__ = [
    "OPT_PASSTHROUGH_DATETIME",
    "OPT_SORT_KEYS",
    "JSONDecodeError",
    "dumps",
    "is_array",
    "is_object",
    "loads",
]


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Tell whether a value that was read is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value that was read is a JSON array."""
    return isinstance(value, list)
