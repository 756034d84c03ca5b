"""The one decoder: every envelope and every code that the hosts and their gateways send."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memories_async import (
    ApiError,
    AuthenticationError,
    BadRequest,
    CapacityReached,
    Conflict,
    DecodeError,
    EndpointGone,
    InsufficientCredits,
    NotFound,
    NotJson,
    PermissionDenied,
    RateLimited,
    ServerError,
    UnexpectedShape,
)
from memories_async._engine.envelope import DEEPEST_ANSWER, SUCCESS_CODES, decode

JSON = {"content-type": "application/json"}


def body(**answer: object) -> bytes:
    return json.dumps(answer).encode()


def refusal(status: int, content: bytes, headers: Mapping[str, str] = JSON) -> ApiError:
    """Decode what must be refused."""
    with pytest.raises(ApiError) as caught:
        decode(status, headers, content)
    return caught.value


# Success, by host and age of the documentation.


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        pytest.param(
            {"code": "0000", "msg": "success", "data": [1], "success": True, "failed": False},
            [1],
            id="E1 visual search",
        ),
        pytest.param({"code": "0000", "data": {"a": 1}}, {"a": 1}, id="E1 older sample"),
        pytest.param(
            {"code": 200, "msg": "success", "data": {"a": 1}, "success": True, "failed": False},
            {"a": 1},
            id="E2 visual intelligence",
        ),
        pytest.param({"code": "200", "data": {"a": 1}}, {"a": 1}, id="E2 code as text"),
        pytest.param({"code": 0, "msg": "success", "data": {"a": 1}}, {"a": 1}, id="E3 captions"),
        pytest.param({"code": "0", "data": {"a": 1}}, {"a": 1}, id="E3 code as text"),
        pytest.param({"code": " 0000 ", "data": 1}, 1, id="code with spaces"),
        pytest.param(
            {"code": 0, "data": {"data": {"text": "A man"}, "token": {"total": 579}}},
            {"text": "A man", "token": {"total": 579}},
            id="E8 data within data",
        ),
        pytest.param(
            {"code": 0, "data": {"data": [1], "page": 1}},
            {"data": [1], "page": 1},
            id="a list named data stays",
        ),
        pytest.param({"code": "SUCCESS", "data": "Done"}, "Done", id="E9 end of a chat stream"),
        pytest.param(
            {"status": "completed", "choices": [{"text": "hi"}]},
            {"status": "completed", "choices": [{"text": "hi"}]},
            id="E10 chat completion",
        ),
        pytest.param(
            {"code": 200, "message": "SUCCESS", "data": {"a": 1}}, {"a": 1}, id="E12 webhook"
        ),
        pytest.param({"code": "0000", "data": None, "success": True}, None, id="data is null"),
        pytest.param({"code": "0000"}, None, id="no data"),
        pytest.param({"code": 0, "data": {}}, {}, id="the pages' generated panel"),
        pytest.param({"success": True, "data": {"a": 1}}, {"a": 1}, id="recorded without a code"),
        pytest.param({"success": True, "data": None}, None, id="null without a code"),
    ],
)
def test_success(answer: dict[str, object], data: object) -> None:
    assert decode(200, JSON, json.dumps(answer).encode()) == data


def test_no_content_is_a_success_without_data() -> None:
    """What was deleted is deleted; where data is due, what reads it says that none came."""
    assert decode(204, {}, b"") is None


@pytest.mark.parametrize("code", [*sorted(SUCCESS_CODES, key=str), 0, 200])
def test_every_success_code_is_one_on_every_host(code: object) -> None:
    """Row 35 of the fault matrix."""
    assert decode(200, JSON, body(code=code, data=7)) == 7
    assert decode(201, JSON, body(code=code, data=7)) == 7


def test_ids_beyond_a_float_stay_exact() -> None:
    """Row 46."""
    data = decode(200, JSON, b'{"code":"0000","data":[{"id":568102998803353601}]}')
    assert data == [{"id": 568102998803353601}]


# Refusals: code, text, HTTP status -> exception.


@pytest.mark.parametrize(
    ("code", "status", "message", "error"),
    [
        # the older hosts: text codes at HTTP 200 (E5)
        ("0001", 200, "bad parameter", BadRequest),
        ("0001", 200, "network abnormal", ServerError),
        ("0001", 200, "Network abnormal, please try again", ServerError),
        ("0001", 200, "video not found", NotFound),
        # what two teams recorded on 2026-09-19, and the older host's answer to a wrong path
        ("0001", 200, "No static resource api/v1/upload_img.", EndpointGone),
        ("0001", 200, "No static resource api.", EndpointGone),
        (404, 404, "No static resource api/v2/embeddings/image.", EndpointGone),
        ("0404", 200, "No static resource api/v1/search.", EndpointGone),
        ("0500", 200, "No static resource api/v1/search.", EndpointGone),
        # the same framework before its version 6.1
        (404, 404, "No endpoint POST /serve/api/v1/search.", EndpointGone),
        ("0001", 200, "No handler found for POST /serve/api/v1/search", EndpointGone),
        ("0410", 410, "Gone", EndpointGone),
        (410, 410, "no more", EndpointGone),
        ("0003", 200, "missing parameter", BadRequest),
        ("0401", 200, "key invalid", AuthenticationError),
        ("0402", 200, "no credits", InsufficientCredits),
        ("0403", 200, "account disabled", PermissionDenied),
        ("0409", 200, "repeated", Conflict),
        # a fixture of the official client's tests
        ("0409", 200, "Service is busy, try later", CapacityReached),
        ("0429", 200, "Request has exceeded the limit.", RateLimited),
        ("0429", 200, "system busy", RateLimited),
        ("9009", 200, "no permission", PermissionDenied),
        ("16", 200, "stream capacity reached", CapacityReached),
        (16, 200, "stream capacity reached", CapacityReached),
        ("0777", 200, "unheard of", ApiError),  # row 37
        ("0001", 401, "bad key", BadRequest),
        # the newest host: the HTTP status is the code (E6), or stands only in the body (E6')
        (400, 400, "Invalid request parameters", BadRequest),
        (400, 400, "Asset not found", NotFound),
        (400, 400, "Resource does not exist", NotFound),
        (401, 401, "Unauthorized", AuthenticationError),
        (402, 402, "no balance", InsufficientCredits),
        (403, 403, "IP not allowed", PermissionDenied),
        (404, 404, "no", NotFound),
        (405, 405, "POST not supported", BadRequest),
        (409, 409, "duplicate", Conflict),
        (413, 413, "too large", BadRequest),
        (415, 415, "type", BadRequest),
        (422, 422, "field", BadRequest),
        (429, 429, "Rate limit exceeded", RateLimited),
        (429, 200, "Rate limit exceeded", RateLimited),
        ("429", 200, "Rate limit exceeded", RateLimited),
        (500, 500, "internal", ServerError),
        (500, 200, "internal", ServerError),
        (599, 200, "internal", ServerError),
        # the captioning host: always -1 at HTTP 200, told apart by the text (E4)
        (-1, 200, "failure: Request has exceeded the limit.", RateLimited),
        (-1, 200, "failure: userPrompt is not allowed, please provide a user prompt", BadRequest),
        (-1, 200, "failure: systemPrompt is not allowed, please provide a system", BadRequest),
        (-1, 200, "failure: callback is not allowed, please provide a callback URL", BadRequest),
        (-1, 200, "failure: videoUrl is not allowed, please upload a video file", BadRequest),
        (-1, 200, "failure: Video file size exceeds the limit of 110MB", BadRequest),
        (-1, 200, "failure: videoUrl is not support video type, please upload", BadRequest),
        (-1, 200, "failure: Failed to fetch file size from URL: https://a/b.mp4", BadRequest),
        (-1, 200, "failure: person name is not null,please provide a name", BadRequest),
        (-1, 200, "failure: person url is not null, please upload a image file", BadRequest),
        (-1, 200, "failure: Image file size exceeds the limit of 2MB", BadRequest),
        (-1, 200, "failure: person url is not support image type", BadRequest),
        # the service's own word that it failed: an explicit no, not an unknown outcome
        (-1, 200, "failure: Failed to upload file", ApiError),
        (-1, 200, "failure: something new", ApiError),
        # throttling's sentence counts only where it means throttling
        (400, 400, "Request has exceeded the limit.", BadRequest),
        ("0003", 200, "Request has exceeded the limit.", BadRequest),
        ("0402", 200, "Request has exceeded the limit.", InsufficientCredits),
        (-1, 200, "failure: Request has exceeded the limit", RateLimited),
        (-1, 200, "failure: Request has exceeded the limit of 20 MB", BadRequest),
        (-1, 200, "failure: Request has exceeded the limit of 1 request per second", RateLimited),
        (-1, 500, "failure: Request has exceeded the limit.", ServerError),
        ("0001", 504, "Request has exceeded the limit.", ServerError),
        ("0409", 502, "Service is busy, try later", ServerError),
        # HTTP decides where the codes disagree
        ("0001", 429, "whatever", RateLimited),
        ("0000", 429, "success", RateLimited),
        ("0001", 503, "whatever", ServerError),
        ("0777", 404, "whatever", NotFound),
        ("0777", 418, "whatever", ApiError),
    ],
)
def test_refusals(code: object, status: int, message: str, error: type[ApiError]) -> None:
    refused = refusal(status, body(code=code, msg=message, data=None))
    assert type(refused) is error
    assert refused.code == str(code) or code in SUCCESS_CODES
    assert refused.status == status
    assert refused.message == message


def test_0001_with_the_throttling_sentence_is_throttling() -> None:
    refused = refusal(200, body(code="0001", msg="Request has exceeded the limit."))
    assert type(refused) is RateLimited


@pytest.mark.parametrize("flags", [{"failed": True}, {"success": False}])
def test_success_code_with_a_failure_flag(flags: dict[str, bool]) -> None:
    refused = refusal(200, body(code="0000", msg="quota", data={"a": 1}, **flags))
    assert type(refused) is ApiError
    assert (refused.code, refused.message) == ("0000", "quota")


@pytest.mark.parametrize("flags", [{"failed": True}, {"success": False}])
def test_a_failure_flag_without_a_code(flags: dict[str, bool]) -> None:
    refused = refusal(200, body(msg="quota", data={"a": 1}, **flags))
    assert type(refused) is ApiError
    assert (refused.code, refused.message) == ("200", "quota")


def test_what_the_service_says_is_one_printable_line() -> None:
    said = "a\x1b[31m\r\n{}\u202e" + "very long " * 100_000
    refused = refusal(200, body(code="0777\x1b[0m" * 30, msg=said))
    assert refused.message.isprintable()
    assert refused.message.startswith("a [31m {} very long")
    assert (len(refused.message), len(refused.code)) == (500, 40)
    assert refused.code.isprintable()
    gateway = refusal(503, body(error=said, path="/"))
    assert gateway.message.isprintable()
    assert refusal(200, body(code="0001", msg="\x1b\x07")).message == "HTTP 200 without a message"


def test_the_error_for_a_retired_endpoint_says_what_is_known() -> None:
    gone = refusal(200, body(code="0001", msg="No static resource api/v1/search."))
    assert isinstance(gone, EndpointGone)
    for fact in ("2026-05-17", "2026-09-19", "upload_img", "Video Datalake", "base_url"):
        assert fact in str(gone)


def test_success_code_with_an_error_status() -> None:
    refused = refusal(403, body(code=0, msg="success", data={}))
    assert type(refused) is PermissionDenied
    assert refused.code == "403"


def test_no_message() -> None:
    assert refusal(200, body(code="0402")).message == "HTTP 200 without a message"
    assert refusal(200, body(code="0402", msg=None, message="m")).message == "m"
    assert refusal(200, body(code="0402", msg=[], data={"a": 1})).message == (
        "HTTP 200 without a message"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"code": "0001", "msg": ["bad file"]}, '["bad file"]'),
        ({"code": "0001", "message": {"file": "too small"}}, '{"file":"too small"}'),
        ({"code": "0001", "msg": "", "error": "bad file"}, "bad file"),
        ({"title": "Bad Request", "status": 400, "detail": "bad file"}, "bad file"),
        ({"detail": [{"loc": ["body"], "msg": "missing"}]}, '[{"loc":["body"],"msg":"missing"}]'),
    ],
)
def test_what_is_said_is_shown_wherever_it_stands(answer: dict[str, object], message: str) -> None:
    status = 200 if "code" in answer else 400
    assert refusal(status, json.dumps(answer).encode()).message == message


# Gateways (E7) and chat failures (E10): no code.


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFound),
        (401, AuthenticationError),
        (413, BadRequest),
        (418, ApiError),
        *((status, ServerError) for status in (500, 502, 503, 504)),
    ],
)
@pytest.mark.parametrize("kind", ["spring", "html", "text", "empty", "null", "list"])
def test_gateway(status: int, error: type[ApiError], kind: str) -> None:
    """Row 44, and an error page of any make."""
    content = {
        "spring": body(
            timestamp="2026-07-20T00:00:00.000+00:00",
            path="/serve/api/v1/upload_img",
            status=status,
            error="Out of service",
            requestId="1a2b",
        ),
        "html": b"<html><body>Bad Gateway</body></html>",
        "text": b"\xff\xfe nothing",
        "empty": b"",
        "null": b"null",
        "list": b"[1]",
    }[kind]
    refused = refusal(status, content)
    assert type(refused) is error
    assert refused.code == str(status)
    if kind == "spring":
        assert refused.message == "Out of service"
    else:
        assert refused.message.startswith(f"HTTP {status}")


def test_gateway_body_without_a_reason() -> None:
    assert refusal(503, b'{"path": "/x"}').message == 'HTTP 503: {"path": "/x"}'


def test_chat_failures() -> None:
    refused = refusal(200, body(status="errored", error={"code": 429, "message": "slow down"}))
    assert (type(refused), refused.code, refused.message) == (RateLimited, "429", "slow down")
    refused = refusal(200, body(status="errored"))
    assert (type(refused), refused.code) == (ApiError, "200")
    refused = refusal(400, body(error={"message": "Model input cannot be empty"}))
    assert (type(refused), refused.message) == (BadRequest, "Model input cannot be empty")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirects_are_refused(status: int) -> None:
    refused = refusal(status, body(code="0000", data={}), {"location": "https://evil.example/"})
    assert type(refused) is ApiError
    assert refused.message == "redirect refused"
    assert refused.code == str(status)


# What is no envelope.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html><title>Sign in</title></html>", id="captive portal (row 32)"),
        pytest.param(b"[" * 100_000, id="nested arrays (row 34)"),
        pytest.param(b'{"code":' * 100_000, id="nested objects"),
        pytest.param(b'{"code":"0000","data":NaN}', id="NaN"),
        pytest.param(b'{"code":"0000","data":Infinity}', id="infinity"),
        pytest.param(b'{"code":"0000","data":{"text":"A m', id="cut off"),
        pytest.param(b"0" * 5000, id="many zeros"),
        pytest.param(b"\0", id="NUL"),
    ],
)
def test_not_json(content: bytes) -> None:
    with pytest.raises(NotJson) as caught:
        decode(200, {"content-type": "text/html"}, content)
    assert caught.value.status == 200
    assert len(caught.value.snippet) <= 200
    assert caught.value.snippet.isprintable()
    assert "HTTP 200, text/html" in caught.value.message


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (b"a \xff\xfe b", "a \ufffd\ufffd b"),
        (b"a \\ud83d", "a \ufffd"),
        (b"a \\uDE00 b", "a \ufffd b"),
        (b"\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600"),  # half a pair, and a whole one
        (b"\\\\ud83d \xff", "\\ud83d \ufffd"),  # a backslash, and letters after it
        (b"\\ud83d \\n \\u0041", "\ufffd \n A"),
        (b"\xf0\x9f\x98", "\ufffd"),  # an emoji cut in its bytes
        ("é\U0001f600".encode(), "é\U0001f600"),  # exact where it can be
    ],
)
def test_what_no_text_can_hold_costs_one_character(inside: bytes, text: str) -> None:
    """It has been paid for."""
    assert decode(200, JSON, b'{"code":"0000","data":{"text":"%s"}}' % inside) == {"text": text}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"null", b"[]", b'"x"', b"7", b"true", b"{}", b'{"code":null}', b'{"code":true}'),
        *(b'{"code":0.5,"data":{}}', b'{"code":["0000"]}', b'{"data":{"text":"hi"}}'),
        b'{"status":"queued"}',
        *(b'{"success":true}', b'{"success":"true","data":{}}'),
    ],
)
def test_unexpected_shape(content: bytes) -> None:
    """Row 33."""
    with pytest.raises(UnexpectedShape) as caught:
        decode(200, JSON, content)
    assert caught.value.status == 200
    assert caught.value.answer == (json.loads(content) if content else None), "paid for, and kept"


@pytest.mark.parametrize("code", [b"0.0", b"200.0", b"2e2"])
def test_a_code_that_somebody_s_writer_made_a_float(code: bytes) -> None:
    assert decode(200, JSON, b'{"code":%s,"data":{"text":"A cat"}}' % code) == {"text": "A cat"}
    throttled = refusal(200, b'{"code":-1.0,"msg":"failure: Request has exceeded the limit."}')
    assert (type(throttled), throttled.code) == (RateLimited, "-1")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-16", "; charset=UTF-16"),
        ("gbk", "; charset=GBK"),
        ("iso-8859-1", '; charset="ISO-8859-1"'),
        ("utf-8", "; charset=ISO-8859-1"),
        ("utf-8", "; charset=punycode"),
        ("utf-8", "; charset=no-such"),
    ],
)
def test_a_paid_answer_in_another_encoding(encoding: str, said: str) -> None:
    """What is UTF-8 is read as that, whatever a gateway's default says."""
    text = "A café" if encoding.startswith("iso") else "照片"
    answer = json.dumps({"code": 0, "data": {"text": text}}, ensure_ascii=False).encode(encoding)
    headers = {"content-type": f"application/json{said}"}
    assert decode(200, headers, answer) == {"text": text}


def test_what_is_neither_utf_8_nor_what_it_says() -> None:
    answer = b'{"code":0,"data":{"text":"a \xff\xff"}}'
    for charset in ("gbk", "punycode", "hex", "no-such"):
        headers = {"content-type": f"application/json; charset={charset}"}
        assert decode(200, headers, answer) == {"text": "a \ufffd\ufffd"}


@pytest.mark.parametrize("control", ["\n", "\t", "\0", "\x1b", "\r\n", "\n\\n"])
def test_a_paid_answer_with_a_control_character_in_its_text(control: str) -> None:
    """Somebody's writer does not escape: what was paid for is not lost for a line feed."""
    answer = '{"code":0,\n"data":{"text":"a \\"cat\\"' + control + ', \\\\"}}'
    text = f'a "cat"{control}, \\'.replace("\\n", "\n")
    assert decode(200, JSON, answer.encode()) == {"text": text}


@pytest.mark.parametrize(
    "content",
    [b'{"code":0,"data":{"text":"a cat","score":NaN}}', b'{"code":0,"data":{"text":"a'],
)
def test_what_cannot_be_read_is_kept_whole(content: bytes) -> None:
    with pytest.raises(NotJson) as caught:
        decode(200, JSON, content + b" " * 5000 + b"\xff")
    assert caught.value.answer == content.decode() + " " * 5000 + "\ufffd", "perhaps paid for"
    assert len(caught.value.snippet) <= 200


def test_texts_without_an_end_are_looked_through_once() -> None:
    answer = b'{"a\n":"' + b'\\"' * 500_000
    with pytest.raises(NotJson):
        decode(200, JSON, answer)


def test_numbers_too_long_for_anything() -> None:
    """E20 and row 34: a 5,000-digit code decodes to some refusal, never to ValueError."""
    for content in (b'{"code":%s,"data":1}' % (b"9" * 5000), b'{"code":0,"data":%s}' % (b"9" * 99)):
        with contextlib.suppress(ApiError, DecodeError):
            decode(200, JSON, content)


def test_of_two_equal_keys_the_last_counts() -> None:
    assert type(refusal(200, b'{"code":"0000","code":"0402"}')) is InsufficientCredits


def test_snippets_are_short_and_clean() -> None:
    with pytest.raises(NotJson) as caught:
        decode(200, {}, b"<a>\x1b[31m\0\r\n\t" + "日本 ".encode() * 500)
    assert caught.value.snippet.startswith("<a> [31m 日本 日本")
    assert len(caught.value.snippet) == 200
    assert "no type" in caught.value.message


# Retry-After: row 40.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0", 0.0),
        ("0.5", 0.5),
        ("121", 121.0),
        (" 7 ", 7.0),
        ("999999999", 999999999.0),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("1e3", None),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("2\n3", None),
        ("٢", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 +9999", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        ("1 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_retry_after(value: str, seconds: float | None, name: str) -> None:
    refused = refusal(429, b"", {name: value})
    assert isinstance(refused, RateLimited)
    assert refused.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    refused = refusal(200, body(code="0429"), {"retry-after": date})
    assert isinstance(refused, RateLimited)
    assert refused.retry_after is not None
    assert 50 < refused.retry_after <= 60


# Whatever comes, the answer is data or an exception of ours.


def outcome_of(
    status: int, headers: Mapping[str, str], content: bytes
) -> ApiError | DecodeError | None:
    try:
        decode(status, headers, content)
    except (ApiError, DecodeError) as error:
        return error
    return None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
_ENVELOPE = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["0000", 0, 200, "0001", -1, 429, None, True, 1.5]) | _JSON,
        "msg": _JSON,
        "message": _JSON,
        "data": _JSON,
        "success": _JSON,
        "failed": _JSON,
        "status": _JSON | st.sampled_from(["completed", "errored"]),
        "error": _JSON,
    },
)


@given(status=st.integers(100, 599), answer=_ENVELOPE | _JSON)
def test_any_json(status: int, answer: object) -> None:
    error = outcome_of(status, JSON, json.dumps(answer).encode("utf-8", "replace"))
    if error is not None:
        assert error.status == status
        assert isinstance(error.message, str)
        assert error.message


@given(status=st.integers(100, 599), content=st.binary(max_size=50), after=st.text(max_size=30))
def test_any_bytes(status: int, content: bytes, after: str) -> None:
    error = outcome_of(status, {"retry-after": after}, content)
    assert error is None or error.status == status


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("levels", [DEEPEST_ANSWER + 1, 1000])
def test_an_answer_nested_beyond_what_python_can_hand_on(
    opening: bytes, closing: bytes, levels: int
) -> None:
    nested = opening * levels + b"1" + closing * levels
    with pytest.raises(UnexpectedShape, match="more than 100 levels") as caught:
        decode(200, {}, b'{"code": "0000", "data": {"text": "x", "more": ' + nested + b"}}")
    assert nested.decode() in str(caught.value.answer)  # what was paid for is not lost
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_answer_of_many_lists_is_not_a_deep_one() -> None:
    nested = b"[" * 90 + b"1" + b"]" * 90
    lists = b",".join([nested] * 50)
    assert (
        decode(200, {}, b'{"code": "0000", "data": [' + lists + b"]}") == [json.loads(nested)] * 50
    )
