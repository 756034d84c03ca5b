"""Keys and addresses from arguments and environment, checked options, and keys that stay hidden."""

from __future__ import annotations

import pickle
import traceback

import attrs
import pytest

from memories_async import Bucket, CallOptions, ConfigurationError, Memories, Rate
from memories_async.config import (
    DOCUMENTED_RATES,
    ORIGINS,
    Policy,
    Secret,
    Settings,
    is_loopback,
    secret_from_environment,
)
from memories_async.operations import Service

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
) -> Settings:
    return Settings.gather(
        api_key=api_key,
        caption_key=caption_key,
        base_url=base_url,
        options=options,
        rates=rates,
        max_connections=max_connections,
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
        ("http://LOCALHOST:8765", "http://LOCALHOST:8765"),
    ],
)
def test_good_addresses(base_url: str, origin: str) -> None:
    assert gathered(base_url=base_url).origin(Service.CAPTION) == origin


@pytest.mark.parametrize(
    ("base_url", "says"),
    [
        ("http://10.0.0.5", "would send the key in the clear"),
        ("http://192.168.1.1:8080", "would send the key in the clear"),
        ("http://example.com", "would send the key in the clear"),
        ("http://localhost.example.com", "would send the key in the clear"),
        ("http://127.0.0.1.example.com", "would send the key in the clear"),
        ("http://0.0.0.0:8765", "would send the key in the clear"),
        ("ftp://gateway.example", "must be an http"),
        ("gateway.example", "must be an http"),
        ("//gateway.example", "must be an http"),
        ("https://", "must be an http"),
        ("https:///path", "must be an http"),
        ("https://user:pass-word@gateway.example", "no user, query or fragment"),
        ("https://user@gateway.example", "no user, query or fragment"),
        ("https://gateway.example/?a=b", "no user, query or fragment"),
        ("https://gateway.example/#a", "no user, query or fragment"),
        ("https://gateway.example:port", "base_url"),
        ("https://gateway.example:99999", "base_url"),
        ("https://[::1", "base_url"),
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
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_options_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be positive"):
        CallOptions(**{name: value})  # type: ignore[arg-type]  # one of its numbers


def test_replay_is_one_of_two_words() -> None:
    assert CallOptions(replay="safe").replay == "safe"
    with pytest.raises(ConfigurationError, match="replay is not 'always'"):
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
    with pytest.raises(ConfigurationError, match="allows no call at all"):
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
    with pytest.raises(ConfigurationError, match="max_connections must be at least 1, not 0"):
        gathered(max_connections=0)


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
