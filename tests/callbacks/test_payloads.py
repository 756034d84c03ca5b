"""Every shape that a callback has been seen in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memories_async.callbacks.payloads import CallbackPayload, read_caption, read_video
from memories_async.errors import DecodeError, NotJson, UnexpectedShape
from memories_async.models import Caption, TokenUsage

TASK = "8e03075a-2230-4e67-98d4-ba53f37c807a"
TOKENS = TokenUsage(input=5, output=7, total=12)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            '{"status":0,"task_id":"TASK","data":{"text":"A dog.","token":TOKENS}}',
            id="as documented",
        ),
        pytest.param(
            '{"status":0,"task_id":"TASK","data":{"text":"A dog."},"token":TOKENS}',
            id="token beside data",
        ),
        pytest.param(
            '{"task_id":"TASK","status":"0","data":{"response":"A dog.","token":TOKENS_AS_TEXT}}',
            id="response, and numbers as text",
        ),
        pytest.param(
            '{"status":0,"task_id":"TASK","data":{"text":null,"response":"A dog.","token":null},'
            '"token":TOKENS}',
            id="null where the other one is",
        ),
        pytest.param(
            '{"status":0,"taskId":"TASK","data":{"text":"A dog.","response":"","token":TOKENS}}',
            id="the other case",
        ),
        pytest.param(
            '{"task_id":"TASK","data":{"text":"A dog.","token":TOKENS}}',
            id="no status",
        ),
    ],
)
def test_a_caption(body: str) -> None:
    body = body.replace("TOKENS_AS_TEXT", '{"input":"5","output":"7","total":"12"}')
    body = body.replace("TOKENS", '{"input":5,"output":7,"total":12}').replace("TASK", TASK)
    notice = read_caption(body.encode())
    assert notice == CallbackPayload(TASK, final=True, result=Caption(text="A dog.", tokens=TOKENS))


@pytest.mark.parametrize("token", ["", ',"token":null', ',"token":"none"', ',"token":[]'])
def test_a_caption_is_worth_more_than_its_tokens(token: str) -> None:
    body = f'{{"status":0,"task_id":"T","data":{{"text":""{token}}}}}'
    notice = read_caption(body.encode())
    assert notice == CallbackPayload("T", final=True, result=Caption(text="", tokens=None))


def test_unknown_fields_are_kept() -> None:
    notice = read_caption(
        b'{"status":0,"task_id":"T","cost":3,'
        b'"data":{"text":"x","duration_ms":17,"token":{"input":1,"cached":9}}}'
    )
    assert notice.result is not None
    assert notice.result.extra == {"cost": 3, "duration_ms": 17}
    assert notice.result.tokens is not None
    assert notice.result.tokens.extra == {"cached": 9}


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":-1,"task_id":"T","data":null,"token":null}',
        b'{"status":"-1","task_id":"T"}',
        b'{"status":-1,"task_id":"T","data":{"text":"half"}}',
        b'{"status":0,"task_id":"T","data":null}',
        b'{"status":0,"task_id":"T"}',
    ],
)
def test_a_failed_caption(body: bytes) -> None:
    assert read_caption(body) == CallbackPayload("T", final=True, result=None)


@pytest.mark.parametrize("status", ["1", '"RUNNING"', "null", "true", "0.5", "[]"])
def test_an_unknown_status_is_not_the_end(status: str) -> None:
    body = f'{{"status":{status},"task_id":"T","data":{{"text":"x"}}}}'
    assert read_caption(body.encode()) == CallbackPayload("T", final=False, result=None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NotJson),
        (b"status=0&task_id=T", NotJson),
        (b"\xff\xfe", NotJson),
        (b"[" * 100_000, NotJson),
        (b"null", UnexpectedShape),
        (b"[]", UnexpectedShape),
        (b'"T"', UnexpectedShape),
        (b"{}", UnexpectedShape),
        (b'{"status":0,"data":{"text":"x"}}', UnexpectedShape),
        (b'{"status":0,"task_id":"","data":{"text":"x"}}', UnexpectedShape),
        (b'{"status":0,"task_id":null,"data":{"text":"x"}}', UnexpectedShape),
        (b'{"status":0,"task_id":true,"data":{"text":"x"}}', UnexpectedShape),
        (b'{"status":0,"task_id":"T","data":{}}', UnexpectedShape),
        (b'{"status":0,"task_id":"T","data":{"text":["x"]}}', UnexpectedShape),
        (b'{"status":0,"task_id":"T","data":"x"}', UnexpectedShape),
    ],
)
def test_what_is_no_callback(body: bytes, error: type[DecodeError]) -> None:
    with pytest.raises(error):
        read_caption(body)


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr))
def test_nothing_else_than_a_refusal_comes_of_nonsense(body: bytes | str) -> None:
    for read in (read_caption, read_video):
        with pytest.raises(DecodeError):
            read(body if isinstance(body, bytes) else body.encode("utf-8", "replace"))


@pytest.mark.parametrize("key", ["videoNo", "video_no"])
@pytest.mark.parametrize(
    ("status", "final", "failed"),
    [
        ("PARSE", True, False),
        ("FAIL", True, True),
        ("FAILED", True, True),
        ("PARSE_ERROR", True, True),
        ("UNPARSE", False, False),
        ("PENDING", False, False),
    ],
)
def test_an_indexed_video(key: str, status: str, final: bool, failed: bool) -> None:
    notice = read_video(f'{{"{key}":"VI1","status":"{status}","extra":1}}'.encode())
    assert (notice.subject, notice.final) == ("VI1", final)
    assert notice.result is not None
    assert (notice.result.video_no, notice.result.status) == ("VI1", status)
    assert notice.result.failed is failed
    assert notice.result.extra == {"extra": 1}


@pytest.mark.parametrize("body", [b"{}", b'{"status":"PARSE"}', b'{"videoNo":null}', b"VI1"])
def test_what_names_no_video(body: bytes) -> None:
    with pytest.raises(DecodeError):
        read_video(body)


@pytest.mark.parametrize("half", [b"\xff", b"\\ud83d"])
def test_a_paid_caption_with_half_a_character_is_kept(half: bytes) -> None:
    payload = read_caption(b'{"status":0,"task_id":"T","data":{"text":"a dog %s"}}' % half)
    assert payload.result is not None
    assert payload.result.text == "a dog \ufffd"
