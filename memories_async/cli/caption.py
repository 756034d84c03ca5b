"""memories-async caption: what an image or a video shows."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from memories_async.captions import VIDEO_SYSTEM_PROMPT, Person
from memories_async.cli.keys import account, connect
from memories_async.cli.options import SHARED, Shared
from memories_async.cli.output import Output, row_of
from memories_async.cli.sources import Kind, kind_of
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError
