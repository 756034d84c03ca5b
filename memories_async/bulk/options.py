"""The options of bulk jobs: what the call that sends an item takes, checked at planning."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memories_async.checks.kinds import NUMBER
from memories_async.checks.parameters import Parameter, between, parameters_of
from memories_async.errors import ConfigurationError
from memories_async.request_limits import LIMITS, TOGETHER

_OF_JOBS = {"searchable_within": Parameter("searchable_within", (NUMBER,), False, between(0, 1e9))}
"""What a job does besides the call."""


@functools.cache
def options_of(call: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Return all that may be set for a client's call, by name."""
    method = inspect.unwrap(call)
    namespace, _, name = method.__qualname__.partition(".")
    return {**parameters_of(method, f"{namespace.lower()}.{name}", LIMITS), **_OF_JOBS}


def check_options(
    kind: str,
    call: Callable[..., Any],
    allowed: Sequence[str],
    options: Mapping[str, object],
    given: Mapping[str, object],
) -> None:
    """Refuse options that the call does not have, or that are not what they should be.

    Args:
        kind: Whose options they are, for the message.
        call: The client's call that sends an item.
        allowed: The options that there are.
        options: What is set.
        given: What holds besides.

    Raises:
        ConfigurationError: The message names the option, its value and what is wanted.
    """
    if unknown := sorted(options.keys() - set(allowed)):
        raise ConfigurationError(
            f"{kind} has no option {', '.join(unknown)}, only {', '.join(sorted(allowed))} "
            "(fields of your own belong into 'extra')"
        )
    for name, value in options.items():
        # In a file of options, null is no way to leave one out.
        problem = f"{name} is null" if value is None else options_of(call)[name].problem(value)
        if problem is not None:
            raise ConfigurationError(f"{kind}: {problem}")
    merged = {**given, **options}
    if sum(name in merged for name in TOGETHER) == 1 and not options.keys().isdisjoint(TOGETHER):
        raise ConfigurationError(f"{kind}: latitude and longitude belong together")
