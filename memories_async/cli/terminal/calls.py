"""What calls do, line by line, for whoever asks for it: an observer like any other."""

from __future__ import annotations

from memories_async.cli.terminal.console import console
from memories_async.observe.events import Event
from memories_async.observe.logs import text_of


class CallLines:
    """Says on stderr what each call does; a call is told from others by its number."""

    def observe(self, event: Event, /) -> None:
        """Write a line."""
        if text := text_of(event):
            console.say(f"{event.call.operation} {event.call.number}: {text}")
