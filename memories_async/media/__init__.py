"""What may be sent: sources, and the rules, formats and readers behind them."""

from memories_async.media.rules import MediaRule
from memories_async.media.source import Media, Source

__all__ = ["Media", "MediaRule", "Source"]
