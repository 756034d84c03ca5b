"""What is refused of captions before the wire: the arguments, and what the message must say."""

from __future__ import annotations

from typing import Any

from memories_async import MediaError, Person, UnsupportedMedia
from tests.cases import PNG, Refusal, refusal

URL = "https://example.com/a.png"
FILM = "https://example.com/a.mp4"
BACK: dict[str, Any] = {"callback": "https://yourserver.com/callback"}
ALICE = Person("Alice", "https://example.com/alice.jpg")

REFUSALS: tuple[Refusal, ...] = (
    refusal("captions.image", URL, "", says="the prompt is empty"),
    refusal("captions.image", URL, " \n", says="the prompt is empty"),
    refusal("captions.image", URL, "What?", system_prompt=" ", says="the system_prompt is empty"),
    refusal("captions.image", [], "What?", says="no image given"),
    refusal("captions.image", [URL, PNG], "What?", says="not both"),
    refusal("captions.image", URL, "What?", as_base64=True, says="one local image"),
    refusal("captions.image", [PNG, PNG], "What?", as_base64=True, says="one local image"),
    refusal("captions.image", 7, "What?", says=("source is 7", "a path, bytes")),
    *(
        refusal("captions.image", URL, "What?", reasoning_effort=effort, says="reasoning_effort")
        for effort in (0, 11, -2, "high", "1.0", "", True)
    ),
    refusal("captions.image", "https://", "What?", says="image URL must be an http(s) URL"),
    refusal("captions.image", "https://example.com/a b.png", "What?", says="spaces or control"),
    refusal("captions.image", "http://x\r\ny/", "What?", says="control characters"),
    refusal("captions.image", "https://me:secret@example.com/", "What?", says="user name"),
    refusal("captions.image", "https://[::1/a.png", "What?", says="image URL is not a URL"),
    refusal("captions.video", FILM, "", says="the prompt is empty"),
    refusal("captions.video", FILM, "What?", system_prompt="", says="the system_prompt is empty"),
    refusal("captions.video", FILM, "Who?", persons=[ALICE] * 6, says=("persons: 6", "limit is 5")),
    refusal(
        "captions.video", FILM, "Who?", persons=[ALICE, {"name": "", "url": URL}], says="persons[1]"
    ),
    refusal(
        "captions.video", FILM, "Who?", persons=[Person("A", "alice.jpg")], says="persons[0].url"
    ),
    refusal("captions.submit_video", FILM, "What?", callback="ftp://a/b", says="callback must be"),
    refusal("captions.submit_video", FILM, "What?", callback="/back", says="callback must be"),
    refusal("captions.submit_video", FILM, "", **BACK, says="the prompt is empty"),
    refusal("captions.image", b"GIF89a", "What?", says=".png", error=UnsupportedMedia),
    refusal("captions.image", b"", "What?", says="is empty", error=MediaError),
    refusal("captions.image", b"GIF89a", "W", as_base64=True, says=".png", error=UnsupportedMedia),
    refusal("captions.video", PNG, "What?", says="image/png", error=UnsupportedMedia),
    refusal("captions.submit_video", PNG, "W", **BACK, says="image/png", error=UnsupportedMedia),
)
