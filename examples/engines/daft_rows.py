"""Each image embedded once, for the rows of a Daft dataframe: ``python daft_rows.py FOLDER``."""

import os
import sys
from collections import Counter
from pathlib import Path

import daft

from memories_async import Memories
from memories_async.bulk import Once, SqliteLedger


@daft.cls(max_concurrency=1)
class Embedder:
    """One client for each process."""

    def __init__(self) -> None:
        self.once = Once(Memories(), SqliteLedger(os.environ.get("LEDGER", "once.ledger")))

    @daft.method(return_dtype=daft.DataType.string())
    async def __call__(self, path: str) -> str:
        """Return what has become of an image."""
        record = await self.once.embed_image(path.removeprefix("file://"))
        return record.status.value


if __name__ == "__main__":
    paths = [str(path) for name in sys.argv[1:2] for path in Path(name).glob("*.png")]
    if not paths or "MEMORIES_API_KEY" not in os.environ:
        sys.exit("Usage: MEMORIES_API_KEY=… python daft_rows.py FOLDER (the images are its *.png)")
    embed = Embedder()
    rows = daft.from_glob_path(os.path.join(sys.argv[1], "*.png"))
    rows = rows.with_column("status", embed(rows["path"]))
    statuses = rows.to_pydict()["status"]
    print(", ".join(f"{count} {status}" for status, count in Counter(statuses).items()))
