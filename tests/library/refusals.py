"""What is refused of library before the wire: the arguments, and what the message must say."""

from __future__ import annotations

from memories_async import Media, MediaError, MediaTooLarge, UnsupportedMedia
from tests.cases import FILES, PNG, Refusal, refusal

URL = "https://example.com/a.png"
NAMED = Media(FILES["video.mp4"], name="film.mp4")
QUERY = Media(PNG, name="query.png")

REFUSALS: tuple[Refusal, ...] = (
    refusal("library.add_images", [], says="no image given"),
    refusal("library.add_images", [PNG], tags=["t"] * 51, says=("tags: 51", "limit is 50")),
    refusal("library.add_images", [PNG], tags="outdoor", says="not one text"),
    refusal(
        "library.add_images",
        [PNG],
        camera_model="c" * 201,
        says=("camera_model has 201 characters", "limit is 200"),
    ),
    refusal("library.add_images", [PNG], latitude=90.1, says="latitude must be between -90 and 90"),
    refusal("library.add_images", [PNG], longitude=-180.1, says="longitude must be between"),
    refusal("library.add_images", [PNG], latitude=float("nan"), says="latitude must be between"),
    refusal("library.add_images", [PNG], datetime_taken="2025-09-07", says="yyyy-MM-dd HH:mm:ss"),
    refusal("library.search_clips", "", PNG, "red", says="video_no is empty"),
    refusal("library.search_clips", "VI1", PNG, " ", says="prompt is empty"),
    refusal("library.add_video", "https://example.com/a b.mp4", says="spaces or control"),
    refusal("library.video", "", says="video_no is empty"),
    refusal("library.add_images", [PNG, URL], says=(URL, "is a URL"), error=MediaError),
    refusal("library.search_clips", "VI1", URL, "red", says="is a URL", error=MediaError),
    refusal("library.add_images", b"II*\0", says="image/tiff", error=UnsupportedMedia),
    refusal(
        "library.add_images",
        b"BM" + bytes(20 << 20),
        says=("20,971,522 bytes", "limit for a library image is 20 MB"),
        error=MediaTooLarge,
    ),
    refusal(
        "library.search_clips",
        "VI1",
        b"BM" + bytes(20 << 20),
        "red",
        says="limit for a query image is 20 MB",
        error=MediaTooLarge,
    ),
    refusal("library.add_video", b"FLV\x01", says="video/x-flv", error=UnsupportedMedia),
    refusal("library.add_video", NAMED, tags=["x"] * 21, says="tags: 21 given; the limit is 20"),
    refusal("library.add_video", NAMED, tags="zoo", says="tags is a sequence of texts"),
    refusal("library.add_video", NAMED, callback="ftp://x/", says="callback must be an http"),
    refusal("library.add_video", NAMED, callback="http://x/" + "y" * 300, says="limit is 299"),
    refusal("library.add_video", NAMED, camera_model="x" * 201, says="the limit is 200"),
    refusal("library.add_video", NAMED, latitude=91, says="latitude must be between -90 and 90"),
    refusal("library.add_video", "http://me:secret@x/a.mp4", says="must not carry a user name"),
    refusal("library.videos", page_size=0, says="page_size must be at least 1"),
    refusal("library.videos", video_nos="VI1", says="video_nos is a sequence of texts"),
    refusal("library.delete_videos", "VI1", says="video_nos is a sequence of texts"),
    refusal("library.download", " ", "x", says="video_no is empty"),
    refusal("library.search", " ", says="query is empty"),
    refusal("library.search", "x", by="taste", says="by is one of clip, audio, caption, image"),
    refusal("library.search", "x", top_k=0, says="top_k must be between 1 and 1000"),
    refusal("library.search", "x", by="caption", top_k=201, says="between 1 and 200"),
    refusal("library.search", "x", filtering_level="all", says="is one of low, medium, high"),
    refusal("library.search", "x", video_nos=["VI1"] * 101, says="the limit is 100"),
    refusal("library.search_similar", QUERY, similarity=1.1, says="must be between 0 and 1"),
    refusal("library.search_transcripts", " ", says="query is empty"),
    refusal("library.search_transcripts", "x", page_size=501, says="must be between 1 and 500"),
    refusal("library.audio_transcript", "", says="video_no is empty"),
    refusal("library.video_captions", "", says="video_no is empty"),
)
