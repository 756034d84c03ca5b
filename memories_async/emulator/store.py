"""The library behind the emulator: videos, images and assets in a folder, under random names."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from memories_async import _json
from memories_async.emulator.engines.protocol import Line, VideoFacts
from memories_async.emulator.folder import SPOOL_NAME
from memories_async.emulator.spool import SpooledFile

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_ID = re.compile(r"(VI|re_)?[0-9]{18}")

DEFAULT_FOLDER = -1
"""The service's number of the folder in which everything lies that names none."""


@attrs.frozen(kw_only=True)
class Stored:
    """A file that the library keeps.

    Attributes:
        id: Random, and the name of the file on disk.
        name: What the client called it: never a path.
        content_type: What the client said it was.
        size: Bytes.
        sha256: Of the content.
        created_at: Milliseconds since the epoch.
        unique_id: The namespace it belongs to.
        details: The other fields that came with it.
    """

    id: str
    name: str
    created_at: int
    content_type: str = ""
    size: int = 0
    sha256: str = ""
    unique_id: str = "default"
    details: Mapping[str, object] = attrs.field(factory=dict[str, object])

    @property
    def file_name(self) -> str:
        """What the file was called when it came."""
        return self.name

    @property
    def tags(self) -> Sequence[object]:
        """The tags that came with it, and those that the service adds."""
        tags = self.details["tags"]
        return tags if _json.is_array(tags) else ()


def _facts(value: VideoFacts | dict[str, Any] | None) -> VideoFacts | None:
    """Read facts back from a record."""
    return VideoFacts(**value) if isinstance(value, dict) else value


def _lines(values: Sequence[Line | dict[str, Any]]) -> tuple[Line, ...]:
    """Read lines back from a record."""
    return tuple(Line(**value) if isinstance(value, dict) else value for value in values)


@attrs.frozen(kw_only=True)
class StoredVideo(Stored):
    """A video with what indexing made of it: ``UNPARSE``, then ``PARSE`` or ``FAILED``.

    Attributes:
        extension: What its name ended with when it came, e.g. ``.mp4``.
        folder_id: The folder it lies in.
        retained: Whether the original may be downloaded.
        status: What indexing has come to.
        facts: What the container says.
        seen: What is to be seen in it.
        heard: What is said in it.
        cause: Why indexing failed.
    """

    extension: str = ""
    folder_id: int = DEFAULT_FOLDER
    retained: bool = True
    status: str = "UNPARSE"
    facts: VideoFacts | None = attrs.field(default=None, converter=_facts)
    seen: tuple[Line, ...] = attrs.field(default=(), converter=_lines)
    heard: tuple[Line, ...] = attrs.field(default=(), converter=_lines)
    cause: str | None = None

    @property
    def file_name(self) -> str:
        """What the file was called when it came."""
        return self.name + self.extension


@attrs.frozen(kw_only=True)
class StoredImage(Stored):
    """An image of the library.

    Attributes:
        text: What it can be found by; None until it is first looked for.
    """

    text: str | None = None


@attrs.frozen(kw_only=True)
class StoredAsset(Stored):
    """A file to be used by its id.

    Attributes:
        signature: What a signed address must hold, where there is one.
        received_at: When its bytes came, in milliseconds since the epoch; None until then.
    """

    signature: str = ""
    received_at: int | None = None


S = TypeVar("S", bound=Stored)


class Repository(Generic[S]):
    """The stored files of one kind: each a file and a JSON record beside it. All calls block."""

    def __init__(self, folder: Path, record: type[S]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        found = [stored for path in _own(folder, ".json") if (stored := _read(path, record))]
        # In the order in which they came, for that is the order of the pages.
        in_order = sorted(found, key=lambda stored: (stored.created_at, stored.id))
        self._records = {stored.id: stored for stored in in_order}
        self._writing = threading.Lock()
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove what an emulator that was killed had begun: content or records by themselves."""
        for path in [*_own(self._folder, ".new"), *_own(self._folder, "")]:
            if path.suffix or path.name not in self._records:
                path.unlink(missing_ok=True)
        for stored in self.all():
            if stored.size and not self._path(stored).is_file():
                logger.warning("%s has lost its content and is forgotten", stored.id)
                self.remove(stored)

    def all(self) -> list[S]:
        """Return every record, the oldest first."""
        return list(self._records.values())

    def get(self, id: str) -> S | None:
        """Return a record by its id."""
        return self._records.get(id)

    def file(self, stored: S) -> SpooledFile:
        """Return the content as it once came in."""
        return SpooledFile(
            part="",
            name=stored.file_name,
            content_type=stored.content_type,
            size=stored.size,
            sha256=stored.sha256,
            path=self._path(stored),
        )

    def add(self, files: Sequence[tuple[S, Path]]) -> None:
        """Move files in, all of them or none."""
        try:
            for stored, source in files:
                source.replace(self._path(stored))
                self.insert(stored)
        except OSError:
            for stored, _ in files:
                self.remove(stored)
            raise

    def insert(self, stored: S) -> None:
        """Write a new record."""
        with self._writing:
            self._write(stored)

    def update(self, stored: S) -> None:
        """Write a changed record, unless it has been deleted in the meantime."""
        with self._writing:
            if stored.id in self._records:
                self._write(stored)

    def remove(self, stored: S) -> None:
        """Delete a record and its file."""
        with self._writing:
            self._records.pop(stored.id, None)
            self._record_path(stored).unlink(missing_ok=True)
            self._path(stored).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every record and its file."""
        for stored in self.all():
            self.remove(stored)

    def _write(self, stored: S) -> None:
        new = self._folder / f"{stored.id}.new"
        new.write_bytes(_json.dumps(attrs.asdict(stored)))
        new.replace(self._record_path(stored))
        self._records[stored.id] = stored

    def _path(self, stored: S) -> Path:
        return self._folder / stored.id

    def _record_path(self, stored: S) -> Path:
        return self._folder / f"{stored.id}.json"


class MediaStore:
    """Everything the emulator keeps; it lasts as long as its folder.

    Args:
        folder: Made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.videos = Repository(folder / "videos", StoredVideo)
        self.images = Repository(folder / "images", StoredImage)
        self.assets = Repository(folder / "assets", StoredAsset)
        self.incoming = folder / "incoming"
        self.incoming.mkdir(exist_ok=True)
        for left_over in self.incoming.iterdir():
            if SPOOL_NAME.fullmatch(left_over.name):
                left_over.unlink()

    def clear(self) -> None:
        """Delete everything that is kept."""
        for repository in self.videos, self.images, self.assets:
            repository.clear()


def _own(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield the files that a repository writes there: others are left alone."""
    for path in list(folder.iterdir()):
        if path.suffix == suffix and _ID.fullmatch(path.stem) and path.is_file():
            yield path


def _read(path: Path, record: type[S]) -> S | None:
    """Return a record, or None where the file is damaged, or another version's."""
    try:
        stored = record(**_json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%r cannot be read as a record and is ignored: %s", path.name, error)
        return None
    return stored if stored.id == path.stem else None


def new_video_no() -> str:
    """Return an unused video number, e.g. ``VI625239098370850816``."""
    return f"VI{_eighteen_digits()}"


def new_image_id() -> str:
    """Return an unused image id: an int64 that no float can hold."""
    return str(_eighteen_digits() | 1)


def new_asset_id() -> str:
    """Return an unused asset id, e.g. ``re_625239098370850816``."""
    return f"re_{_eighteen_digits()}"


def _eighteen_digits() -> int:
    return 10**17 + secrets.randbelow(9 * 10**17)
