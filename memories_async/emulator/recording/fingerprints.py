"""What makes two requests the same: path, fields and file contents, not boundary or file names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from memories_async import _json
from memories_async.emulator.spool import SpooledFile

# Addresses that are made anew for each run say nothing about what is asked.
_OF_ONE_RUN = frozenset({"callback", "signature"})


def fingerprint(
    method: str, path: str, fields: Mapping[str, object], files: Sequence[SpooledFile]
) -> str:
    """Return a digest that a request has whoever sends it, and however its body is laid out."""
    asked = {
        "method": method,
        "path": path,
        "fields": {name: value for name, value in fields.items() if name not in _OF_ONE_RUN},
        "files": [[file.part, file.sha256] for file in files],
    }
    return hashlib.sha256(_json.dumps(asked, option=_json.OPT_SORT_KEYS)).hexdigest()
