"""What the HTTP server complains of: a line for a request that is no HTTP, no traceback."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError


class ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """Says in one line what strangers send that cannot be read; what fails here has a traceback."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        """Log a failure."""
        if isinstance(exc_info, HttpProcessingError):
            # Not aiohttp's words, which hold what came: a key may stand in it, and a stranger's
            # bytes must not forge lines.
            kind = type(exc_info).__name__
            self.warning("A request that is no HTTP was refused (%d): %s", exc_info.code, kind)
        else:
            super().exception(msg, *args, exc_info=exc_info, **options)
