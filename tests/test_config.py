"""Keys and addresses from arguments and environment, checked options, and keys that stay hidden."""

from __future__ import annotations

import base64
import pickle
import traceback
from pathlib import Path
from typing import Any

import attrs
import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Memories, Rate
from memories_async.addresses import is_loopback, proxy_from_environment
from memories_async.clock import SystemClock
from memories_async.config import (
    DOCUMENTED_RATES,
    ORIGINS,
    Policy,
    Settings,
)
from memories_async.limiters import MemoryLimiter
from memories_async.observe import Receipts
from memories_async.operations import Service
from memories_async.secret import Secret, secret_from_environment
from memories_async.sync import Memories as BlockingMemories

KEY = "sk-mavi-SENTINEL-0123456789-ab12"
CAPTION = "sk-caption-SENTINEL-9876543210-cd34"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MEMORIES_API_KEY", "MEMORIES_CAPTION_KEY", "MEMORIES_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)


def gathered(
    api_key: str | None = KEY,
    caption_key: str | None = None,
    base_url: str | None = None,
    options: CallOptions | None = None,
    rates: dict[Bucket, Rate] | None = None,
    max_connections: int = 100,
    proxy: str | None = None,
) -> Settings:
    return Settings.gather(
        api_key=api_key,
        caption_key=caption_key,
        base_url=base_url,
        options=options,
        rates=rates,
        max_connections=max_connections,
        proxy=proxy,
    )


# Where keys and address come from.


def test_keys_from_arguments() -> None:
    settings = gathered(KEY, CAPTION)
    assert settings.key(Service.VISUAL_SEARCH).reveal() == KEY
    assert settings.key(Service.VISUAL_INTELLIGENCE).reveal() == KEY
    assert settings.key(Service.CAPTION).reveal() == CAPTION


def test_keys_and_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORIES_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", CAPTION)
    monkeypatch.setenv("MEMORIES_BASE_URL", "https://gateway.example/api/")
    settings = gathered(None)
    assert settings.key(Service.VISUAL_SEARCH).reveal() == KEY
    assert settings.key(Service.CAPTION).reveal() == CAPTION
    assert {settings.origin(service) for service in Service} == {"https://gateway.example/api"}


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORIES_API_KEY", "other")
    monkeypatch.setenv("MEMORIES_CAPTION_KEY", "other")
    monkeypatch.setenv("MEMORIES_BASE_URL", "https://other.example")
    settings = gathered(KEY, CAPTION, "http://127.0.0.1:8765")
    assert settings.key(Service.VISUAL_SEARCH).reveal() == KEY
    assert settings.key(Service.CAPTION).reveal() == CAPTION
    assert settings.origin(Service.CAPTION) == "http://127.0.0.1:8765"


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_no_key(empty: str | None) -> None:
    with pytest.raises(ConfigurationError, match="pass api_key or set MEMORIES_API_KEY"):
        gathered(empty, empty)


def test_a_missing_key_is_told_when_its_service_is_asked() -> None:
    with pytest.raises(ConfigurationError, match="caption service needs a key of its own: pass ca"):
        gathered(KEY).key(Service.CAPTION)
    with pytest.raises(ConfigurationError, match="search service needs a key of its own: pass api"):
        gathered(None, CAPTION).key(Service.VISUAL_SEARCH)


@pytest.mark.parametrize(
    "key", [f"Bearer {KEY}", "sk-\r\nX: y", "sk-ключ", "sk-\0", "sk-\x7f", "sk key", "sk\tkey"]
)
def test_malformed_keys(key: str) -> None:
    for keys in ((key, None), (KEY, key)):
        with pytest.raises(ConfigurationError, match="bare key, without 'Bearer'") as caught:
            gathered(*keys)
        assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-mavi-a_b-c", "sk-mai-x", "0123456789abcdef" * 2, "k"])
def test_any_prefix_is_a_key(key: str) -> None:
    assert gathered(key).key(Service.VISUAL_SEARCH).reveal() == key


def test_the_services_own_hosts() -> None:
    settings = gathered(KEY)
    hosts = set(Service) - {Service.STORAGE}  # a signed address brings its own
    assert {service: settings.origin(service) for service in hosts} == dict(ORIGINS)
    assert dict(ORIGINS) == {
        Service.CAPTION: "https://security.memories.ai",
        Service.VISUAL_SEARCH: "https://api.memories.ai",
        Service.VISUAL_INTELLIGENCE: "https://mavi-backend.memories.ai",
    }


# base_url: S6 and row 9 of the fault matrix.


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://gateway.example", "https://gateway.example"),
        ("https://gateway.example/", "https://gateway.example"),
        ("https://gateway.example/memories/", "https://gateway.example/memories"),
        ("https://gateway.example:8443", "https://gateway.example:8443"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8765/", "http://[::1]:8765"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://LOCALHOST:8765", "http://localhost:8765"),
        ("https://bücher.example/mé", "https://xn--bcher-kva.example/m%C3%A9"),
    ],
)
def test_good_addresses(base_url: str, origin: str) -> None:
    assert gathered(base_url=base_url).origin(Service.CAPTION) == origin


@pytest.mark.parametrize(
    ("base_url", "says"),
    [
        ("https://gateway..example", "label"),
        (f"https://{'x' * 64}.example", "label"),
        ("http://10.0.0.5", "would send the key in the clear"),
        ("http://192.168.1.1:8080", "would send the key in the clear"),
        ("http://example.com", "would send the key in the clear"),
        ("http://localhost.example.com", "would send the key in the clear"),
        ("http://127.0.0.1.example.com", "would send the key in the clear"),
        ("http://0.0.0.0:8765", "would send the key in the clear"),
        ("ftp://gateway.example", "an http\\(s\\) address is wanted"),
        ("gateway.example", "an http\\(s\\) address is wanted"),
        ("//gateway.example", "an http\\(s\\) address is wanted"),
        ("https://", "an http\\(s\\) address is wanted"),
        ("https:///path", "an http\\(s\\) address is wanted"),
        ("https://user:pass-word@gateway.example", "no user, query or fragment"),
        ("https://user@gateway.example", "no user, query or fragment"),
        ("https://gateway.example/?a=b", "no user, query or fragment"),
        ("https://gateway.example/#a", "no user, query or fragment"),
        ("https://gateway.example:port", "base_url"),
        ("https://gateway.example:99999", "base_url"),
        ("https://[::1", "base_url"),
        ("https://gateway.example/a b", "spaces or control characters"),
        ("https://gateway.example/\n", "spaces or control characters"),
        ("https://api.memories.ai/serve/datalake/v1", "the Video Datalake .* is another product"),
        ("https://gateway.example/Datalake", "the Video Datalake .* is another product"),
        ("https://api.memories.ai/serve/api/v1", "leave out /serve/api/v1"),
        ("https://gateway.example/serve/api/v1/", "leave out /serve/api/v1"),
        ("https://security.memories.ai/v1/understand", "leave out /v1/understand"),
        ("https://api.memories.ai/anything", "leave out /anything"),
        ("https://api.memories.ai./anything", "leave out /anything"),
        (
            "https://gateway.example/?token=pass-word",
            r"'https://gateway.example/\?…'; it has no user",
        ),
        (5, "base_url is 5; an http"),
        (b"https://gateway.example", "base_url is .* an http"),
    ],
)
def test_bad_addresses(base_url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Memories(KEY, base_url=base_url)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.com", "10.0.0.1", "0.0.0.0", "::", "localhost."])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


# Options and rates.


@pytest.mark.parametrize(
    "name",
    ["deadline", "attempts", "retry_time", "connect_timeout", "stall_timeout", "answer_timeout"],
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "30", True, [1], object()])
def test_options_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"CallOptions: {name} is .* is wanted"):
        CallOptions(**{name: value})  # type: ignore[arg-type]  # one of its numbers


def test_replay_is_one_of_two_words() -> None:
    assert CallOptions(replay="safe").replay == "safe"
    with pytest.raises(
        ConfigurationError, match="replay is one of safe, accept_double_billing, not 'always'"
    ):
        CallOptions(replay="always")  # type: ignore[arg-type]  # that is the point


def test_policies() -> None:
    policy = Policy()
    assert policy == Policy(
        deadline=None,
        attempts=5,
        retry_time=120.0,
        connect_timeout=10.0,
        stall_timeout=60.0,
        answer_timeout=300.0,
        replay="safe",
    )
    assert policy.with_options(None) is policy
    assert policy.with_options(CallOptions()) == policy
    changed = policy.with_options(CallOptions(deadline=5, replay="accept_double_billing"))
    assert changed == Policy(deadline=5, replay="accept_double_billing")
    assert gathered(options=CallOptions(attempts=1)).policy == Policy(attempts=1)


@pytest.mark.parametrize(
    ("calls", "seconds"), [(0, 1), (-1, 1), (1, 0), (1, -1), (1, float("nan"))]
)
def test_a_rate_allows_some_call(calls: int, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="is wanted"):
        Rate(calls, seconds)


def test_documented_rates_apply_on_the_services_own_hosts_only() -> None:
    assert gathered().rates == DOCUMENTED_RATES
    assert set(DOCUMENTED_RATES) == set(Bucket)
    assert gathered(base_url="http://127.0.0.1:1").rates == {}
    own = {Bucket.SEARCH: Rate(3)}
    assert gathered(rates=own).rates == own
    assert gathered(rates={}).rates == {}
    assert gathered(base_url="http://127.0.0.1:1", rates=own).rates == own


def test_connections() -> None:
    assert gathered(max_connections=1).max_connections == 1


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "5", None])
def test_connections_are_a_whole_number(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_connections is .* a whole number from 1"):
        Memories(KEY, max_connections=value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("name", ["embedding", "EMBEDDING", "Embedding", Bucket.EMBEDDING])
def test_a_bucket_may_be_named_by_a_text(name: object) -> None:
    assert gathered(rates={name: Rate(5)}).rates == {Bucket.EMBEDDING: Rate(5)}  # type: ignore[dict-item]  # also text


def test_a_bucket_of_two_words() -> None:
    for name in ("caption image", "caption_image", "CAPTION_IMAGE", "Caption-Image"):
        assert gathered(rates={name: Rate(5)}).rates == {Bucket.CAPTION_IMAGE: Rate(5)}  # type: ignore[dict-item]  # also text


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"embeddings": Rate(5)}, "rates has 'embeddings', no bucket: there are caption image"),
        ({5: Rate(5)}, "rates has 5, no bucket"),
        ({None: Rate(5)}, "rates has None, no bucket"),
        ({Bucket.EMBEDDING: 5}, r"rates\[.*\] is 5; a Rate is wanted"),
        ({"embedding": None}, r"rates\['embedding'\] is None; a Rate is wanted"),
        ([("embedding", Rate(5))], "rates is .*; a mapping of buckets to Rate is wanted"),
        (Rate(5), "a mapping of buckets to Rate is wanted"),
        ("embedding", "a mapping of buckets to Rate is wanted"),
    ],
)
def test_rates_that_would_be_ignored_are_refused(rates: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Memories(KEY, rates=rates)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limiter", value) for value in (object(), "redis://host", 5, {}, MemoryLimiter)),
        *(("clock", value) for value in (object(), "now", 5, SystemClock)),
        *(("ssl_context", value) for value in (object(), "ca.pem", True, False)),
    ],
)
def test_what_would_fail_at_the_first_call_is_refused(name: str, value: object) -> None:
    arguments: dict[str, Any] = {name: value}
    for kind in (Memories, BlockingMemories):
        with pytest.raises(ConfigurationError, match=f"Memories: {name} is .* is wanted"):
            kind(KEY, **arguments)


@pytest.mark.parametrize("options", [{"deadline": 3}, 30, "safe", CallOptions])
def test_options_are_call_options(options: object) -> None:
    with pytest.raises(ConfigurationError, match=r"options is .* CallOptions (is|are) wanted"):
        Memories(KEY, options=options)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigurationError, match=r"options is .* CallOptions (is|are) wanted"):
        Memories(KEY).with_options(options)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("wrong", ["log", [5], [Receipts], Receipts])
def test_who_is_told_of_a_call_is_an_observer(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="CallOptions: observers"):
        CallOptions(observers=wrong)  # type: ignore[arg-type]  # that is the point


def test_observers_of_calls_add_up(tmp_path: Path) -> None:
    first, second = Receipts(tmp_path / "one"), Receipts(tmp_path / "two")
    policy = Policy().with_options(CallOptions(observers=[first]))
    assert policy.with_options(CallOptions(observers=(second,))).observers == (first, second)


@pytest.mark.parametrize("value", [5, "text", object()])
def test_what_is_awaited_before_sending_is_a_function(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"before_sending is .* a function to await"):
        CallOptions(before_sending=value)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "authorization", "HOST", "Content-Type", "content-length"),
        *("Content-Anything", "Transfer-Encoding", "Connection", "Proxy-Authorization", "Expect"),
        *("Range", "Cookie", "Upgrade", "TE", "Trailer", "Keep-Alive", "Accept-Encoding"),
    ],
)
def test_headers_that_are_the_client_s_own(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"headers has .* the client's own to set"):
        CallOptions(headers={name: "x"})


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"X-A\r\nHost": "x"}, "no header's name"),
        ({"": "x"}, "no header's name"),
        ({"X A": "x"}, "no header's name"),
        ({5: "x"}, "no header's name"),
        ({"X-Token": "SENTINEL\r\nAuthorization: y"}, "headers\\['X-Token'\\] is not a text"),
        ({"X-Token": "SENTINELé"}, "headers\\['X-Token'\\] is not a text"),
        ({"X-Token": 5}, "headers\\['X-Token'\\] is not a text"),
        ([("X-A", "x")], "headers is .* a mapping"),
        ("X-A: x", "headers is .* a mapping"),
    ],
)
def test_headers_that_cannot_be_sent(headers: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        CallOptions(headers=headers)  # type: ignore[arg-type]  # that is the point
    assert "SENTINEL" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({5: "x"}, "no field's name"),
        ({"": "x"}, "no field's name"),
        ({"a\r\nb": "x"}, "no field's name"),
        *(({"a": value}, r"fields\['a'\] is") for value in (b"x", object(), None, {1}, 2**64)),
        *(
            ({"a": value}, r"fields\['a'\] is")
            for value in (float("nan"), "\ud800", [b"x"], {1: 2})
        ),
        ([("a", "x")], "fields is .* a mapping"),
    ],
)
def test_fields_that_cannot_be_sent(fields: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        CallOptions(fields=fields)  # type: ignore[arg-type]  # that is the point


def test_headers_and_fields_add_up_and_are_the_client_s_own_copy() -> None:
    headers = {"X-A": "1"}
    options = CallOptions(headers=headers, fields={"a": [1, {"b": True}]})
    headers["Authorization"] = "smuggled"
    assert options.headers == {"X-A": "1"}
    assert "X-A" not in repr(options)
    policy = Policy().with_options(options).with_options(CallOptions(headers={"X-B": "2"}))
    assert (policy.headers, policy.fields) == (
        {"X-A": "1", "X-B": "2"},
        {"a": [1, {"b": True}]},
    )
    assert pickle.loads(pickle.dumps(options)) == options


# Proxies.


@pytest.mark.parametrize(
    ("given", "address", "login"),
    [
        ("http://proxy:3128", "http://proxy:3128", None),
        ("proxy:3128", "http://proxy:3128", None),
        ("https://proxy.example/", "https://proxy.example", None),
        ("http://user:p%40ss@proxy:3128", "http://proxy:3128", "user:p@ss"),
        ("http://[::1]:3128", "http://[::1]:3128", None),
    ],
)
def test_good_proxies(given: str, address: str, login: str | None) -> None:
    proxy = gathered(proxy=given).proxy
    assert proxy is not None
    encoded = login and f"Basic {base64.b64encode(login.encode()).decode()}"
    assert (proxy.address, proxy.login) == (address, encoded)
    copied = pickle.loads(pickle.dumps(proxy))
    assert (copied.address, copied.login) == (address, None)
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "proxy",
    [
        *(
            "socks5://user:SENTINEL@proxy:1080",
            "http://user:SENTINEL@:80",
            "http://",
            "ftp://proxy",
        ),
        *("http://user:SENTINEL@proxy:99999", "http://user:SENTINEL@proxy/path", "http://[::1"),
        *("http://user:SENTINEL@pro xy", "http://user:SENTINEL@proxy:port", 5, b"http://proxy", ""),
    ],
)
def test_bad_proxies(proxy: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"^(Memories: )?proxy is ") as caught:
        Memories(KEY, proxy=proxy)  # type: ignore[arg-type]  # that is the point
    assert "SENTINEL" not in str(caught.value)
    if not isinstance(proxy, str) or not proxy:
        return
    for variable in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigurationError, match=r"^https_proxy is ") as caught:
        proxy_from_environment("https://api.memories.ai")
    assert "SENTINEL" not in str(caught.value)


# Keys stay hidden: S1.


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(KEY, "MEMORIES_API_KEY")
    assert repr(secret) == str(secret) == f"{secret}" == "Secret('sk-…ab12')"
    assert repr(Secret("short-key", "X")) == "Secret('…')"
    assert secret.reveal() == KEY
    assert not hasattr(secret, "__dict__")
    assert secret == Secret(KEY, "OTHER")
    assert hash(secret) == hash(Secret(KEY, "OTHER"))
    assert secret != Secret("other", "MEMORIES_API_KEY")
    assert secret != KEY


def shown(value: object) -> str:
    """Everything that a log, a debugger or a crash report might show of an object."""
    texts = [repr(value), str(value), f"{value}", repr(getattr(value, "__dict__", ""))]
    if attrs.has(type(value)):
        texts.append(repr(attrs.asdict(value)))  # type: ignore[arg-type]  # it is an attrs class
    for item in getattr(value, "__dict__", {}).values():
        texts += [repr(item), repr(getattr(item, "__dict__", ""))]
    texts.append(repr(pickle.dumps(value)))
    return "\n".join(texts)


def test_no_key_in_anything_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gathered(KEY, CAPTION)
    for setting in (settings, settings.api_key, settings.policy):
        assert "SENTINEL" not in shown(setting)
    client = Memories(KEY, caption_key=CAPTION)
    for value in (client, client.captions, client.library, client.embeddings):
        for text in (repr(value), str(value), repr(vars(value))):
            assert "SENTINEL" not in text
    assert repr(client) == "Memories(base_url=None)"


def test_no_key_in_a_traceback_with_locals() -> None:
    def use_key() -> None:
        settings = gathered(KEY, CAPTION)
        key = settings.key(Service.CAPTION)
        raise ValueError(settings, key)

    try:
        use_key()
    except ValueError as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        here = [frame for frame in report.stack if frame.name == "use_key"]
        assert here[0].locals
        assert "SENTINEL" not in "".join(here[0].locals.values())
        assert "SENTINEL" not in str(report)


def test_a_pickle_looks_the_key_up_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(gathered(KEY, CAPTION))
    assert b"SENTINEL" not in content
    monkeypatch.setenv("MEMORIES_API_KEY", "key-of-the-other-place")
    loaded = pickle.loads(content)  # our own content
    assert loaded.key(Service.VISUAL_SEARCH).reveal() == "key-of-the-other-place"
    assert loaded.caption_key is None
    assert secret_from_environment("MEMORIES_CAPTION_KEY") is None


@pytest.mark.parametrize("name", ["api_key", "caption_key"])
@pytest.mark.parametrize("value", [5, b"sk-000111222333", ["sk-000111222333"], object()])
def test_a_key_that_is_no_text_is_refused_and_not_shown(name: str, value: object) -> None:
    arguments: dict[str, Any] = {"api_key": KEY, name: value}
    with pytest.raises(ConfigurationError, match=f"{name} is of type .*; a text is wanted") as info:
        Memories(**arguments)
    assert "000111" not in str(info.value)


@pytest.mark.parametrize(
    "address", ["https://user:secret@exa\u2100mple.com", "https://user:not@secret@example.com"]
)
def test_what_python_says_of_an_address_shows_no_password(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Memories("key", base_url=address)
    assert "secret" not in str(caught.value)
