"""What the library says, in the terms of the command line: options, and not arguments of calls."""

from __future__ import annotations

import re
from collections.abc import Mapping

from memories_async import errors

_ADVICE: Mapping[str, str] = {
    errors.OutcomeUnknown.advice: (
        "It may have been billed: check whether the result exists before running it again"
    ),
    errors.TlsError.advice: (
        "Nothing was sent: check the certificate, or set SSL_CERT_FILE to your own CA"
    ),
    "say it with price": "say it with --price",
    errors.DeadlineExceeded.advice: "Nothing complete was sent: run it again",
    errors.LimiterUnavailable.advice: (
        "Nothing was sent: restore what --limiter names, then run it again"
    ),
}
_OPTIONS = (
    "answer_timeout",
    "batch_size",
    "camera_model",
    "concurrency",
    "datetime_taken",
    "latitude",
    "limiter",
    "longitude",
    "max_cost",
    "max_items",
    "reasoning_effort",
    "system_prompt",
    "top_k",
    "unique_id",
)
"""Arguments of calls whose options are called the same."""
_OPTION = re.compile(rf"(?<![\w\"'./-])({'|'.join(_OPTIONS)})\b(?= is\b| must\b| needs\b|:)")


def in_options(message: str) -> str:
    """Return a message of the library with the command line's options in it."""
    for theirs, ours in _ADVICE.items():
        message = message.replace(theirs, ours)
    message = re.sub(r"\bcall(ing)? again\b", r"run\1 it again", message).replace(
        "runing", "running"
    )
    return _OPTION.sub(lambda match: f"--{match[1].replace('_', '-')}", message)
