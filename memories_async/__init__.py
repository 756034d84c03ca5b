"""An asyncio-first client for memories.ai: captions, private library, embeddings, clip search."""

from typing import TYPE_CHECKING

from memories_async._version import __version__

if TYPE_CHECKING:
    from memories_async._exports import *

__all__ = [
    "AnswerTimeout",
    "AnswerTooLarge",
    "ApiError",
    "Asset",
    "AssetMetadata",
    "AuthenticationError",
    "BadRequest",
    "Bucket",
    "BudgetExceeded",
    "CallOptions",
    "CallbackTimeout",
    "CapacityReached",
    "Caption",
    "CaptionTask",
    "Clip",
    "ClosedError",
    "ConfigurationError",
    "Conflict",
    "ConnectError",
    "ConnectTimeout",
    "DeadlineExceeded",
    "DecodeError",
    "DnsError",
    "Download",
    "Embedding",
    "EndpointGone",
    "Failed",
    "FilteringLevel",
    "HttpExchange",
    "ImageModel",
    "InsufficientCredits",
    "JobBusy",
    "JournalError",
    "LedgerUnavailable",
    "LibraryImage",
    "LimiterUnavailable",
    "Media",
    "MediaChanged",
    "MediaError",
    "MediaTooLarge",
    "MediaTooLong",
    "Memories",
    "MemoriesError",
    "NotFound",
    "NotJson",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "Person",
    "Progress",
    "Rate",
    "RateLimited",
    "Result",
    "Results",
    "SearchBy",
    "SearchHit",
    "ServerError",
    "Source",
    "StallTimeout",
    "StoreUnavailable",
    "Succeeded",
    "TaskFailed",
    "TlsError",
    "TokenUsage",
    "Transcript",
    "TranscriptLine",
    "UnexpectedShape",
    "UnsupportedMedia",
    "Vector",
    "Video",
    "__version__",
]


if not TYPE_CHECKING:  # a checker knows each name, and would take any name from a __getattr__

    def __getattr__(name: str) -> object:
        # The command line must reach its own first line, and with it its way to end at Ctrl-C,
        # before the tenth of a second that loading all of this takes.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from memories_async import _exports

        globals().update({exported: getattr(_exports, exported) for exported in _exports.__all__})
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
