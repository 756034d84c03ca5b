"""What is to go says so, to the one who called it."""

from __future__ import annotations

import pytest

from memories_async._deprecation import deprecated


@deprecated(since="0.2.0", removed_in="0.4.0", instead="new_name")
def old_name(number: int) -> int:
    """Return the number."""
    return number


def test_a_call_warns_and_works() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"old_name .* since 0\.2\.0 .* 0\.4\.0: use new_name"
    ) as told:
        assert old_name(5) == 5
    assert told[0].filename == __file__
    assert "use new_name" in (old_name.__doc__ or "")
