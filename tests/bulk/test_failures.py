"""What a refusal says: which files, or how many of them."""

from __future__ import annotations

import pytest

from memories_async import BadRequest, MediaError, MemoriesError
from memories_async.bulk.failures import cap_in, named_in, smaller_size, text_of


@pytest.mark.parametrize(
    ("message", "names", "found"),
    [
        ("The file b.png is empty", {1: "a.png", 2: "b.png"}, [2]),
        ("b.png and a.png are empty", {1: "a.png", 2: "b.png", 3: "c.png"}, [1, 2]),
        ("The file 11.jpg is empty", {1: "1.jpg", 2: "11.jpg"}, [2]),
        ("The file my 1.jpg is empty", {1: "1.jpg", 2: "my 1.jpg"}, [2]),
        ("11.jpg, 1.jpg", {1: "1.jpg", 2: "11.jpg"}, [1, 2]),
        ("The file same.png is empty", {1: "same.png", 2: "same.png", 3: "x.png"}, []),
        ("One of the files is empty", {1: "a.png", 2: "b.png"}, []),
        ("日本.png: no", {1: "日本.png"}, [1]),
        ("no", {1: "", 2: "a.png"}, []),
    ],
)
def test_the_files_that_are_meant(message: str, names: dict[int, str], found: list[int]) -> None:
    assert named_in(message, names) == found


@pytest.mark.parametrize(
    ("message", "sent", "cap"),
    [
        ("The number of files exceeds the limit of 100 per request", 150, 100),
        ("Too many images: 150 given, 20 allowed", 150, 20),
        ("At most 1,000 files per request", 1500, 1000),
        ("You may send up to 9 images per call (20 MB each)", 10, 9),
        ("maximum of 50 files, you sent 64", 64, 50),
        ("Too many files", 64, 32),
        ("Too many files: the limit is 100", 64, 32),  # what it says would have allowed them
        ("Too many files", 1, None),
        ("tags exceed the limit of 50", 60, None),
        ("The file a.png exceeds the limit of 20 MB", 60, None),
        ("camera_model exceeds the limit of 200 characters", 300, None),
        ("Invalid request parameters", 60, None),
    ],
)
def test_how_many_files_a_request_may_have(message: str, sent: int, cap: int | None) -> None:
    assert cap_in(message, sent) == cap


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (BadRequest("Payload too large", code="413", status=413), 10),
        (BadRequest("no more than 5 files per request", code="0001", status=200), 5),
        (BadRequest("bad", code="0001", status=200), None),
        (MediaError("too many files: at most 5"), None),
    ],
)
def test_when_requests_become_smaller(error: MemoriesError, size: int | None) -> None:
    assert smaller_size(error, 20) == size


def test_a_local_error_names_each_file() -> None:
    error = MediaError("2 of 3 files", problems=["/a.png is empty", "/b.png: no such file"])
    assert named_in(text_of(error), {1: "/a.png", 2: "/b.png", 3: "/c.png"}) == [1, 2]
