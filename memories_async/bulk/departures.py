"""What the engine says of one request's attempts: whether any of it may have cost something."""

from __future__ import annotations

import attrs

from memories_async.observe.events import AttemptEnded, AttemptStarted, Charged, Event


@attrs.define(eq=False)
class Departures:
    """An observer of one request, for what is raised before a further attempt leaves.

    A hook of the caller may refuse what the journal has as begun: in an attempt after the first,
    or where it is awaited again as its turn took long. That costs nothing, and is not unknown.
    """

    _charged: bool = False
    _unsent: bool = False

    def observe(self, event: Event, /) -> None:
        """Note what an attempt has come to."""
        if isinstance(event, Charged):
            self._charged = True
        elif isinstance(event, AttemptStarted):
            self._unsent = False
        elif isinstance(event, AttemptEnded):
            self._unsent = event.state == "NOT_SENT"

    @property
    def unbilled(self) -> bool:
        """Whether certainly nothing was billed: the last attempt left nothing, none before cost."""
        return self._unsent and not self._charged
