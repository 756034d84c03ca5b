"""What may be sent: sources, and the rules, formats and readers behind them.

May import checks and errors.
"""

from memories_async.media.rules import MediaRule
from memories_async.media.source import AsyncReadable, Media, Picture, Readable, Source, Upload

__all__ = ["AsyncReadable", "Media", "MediaRule", "Picture", "Readable", "Source", "Upload"]
