"""Profiles: a file that is ours alone, and keys that are never shown nor given as arguments."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import sys
import types
from pathlib import Path

import pytest

from memories_async.cli import credentials as keys
from memories_async.cli import job_files, profiles
from memories_async.cli.exit_codes import Exit, NoKey
from memories_async.cli.profiles import Profile
from memories_async.errors import ConfigurationError
from tests.cli.conftest import CAPTION_KEY, KEY, Run
from tests.cli.forked import run_at_once

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no file modes")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pipe_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@posix
def test_key_is_stored_for_the_owner_alone(run: Run, home: Path, monkeypatch, capsys):
    pipe_in(monkeypatch, f"{KEY}\n")
    assert run("config", "key", "api_key") == 0
    path = home / "config" / "memories-async" / "config.toml"
    assert profiles.path() == path
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert profiles.read() == {"default": Profile(api_key=KEY)}
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]
    shown = "".join(capsys.readouterr())
    assert KEY not in shown
    assert "api_key of profile 'default' is stored" in shown


def test_a_piped_key_has_an_end(run: Run, home: Path, monkeypatch, capsys):
    endless = io.StringIO("k" * 10_000_000)
    monkeypatch.setattr(sys, "stdin", endless)
    assert run("config", "key", "api_key") == Exit.USAGE
    assert "is too long" in capsys.readouterr().err
    assert endless.tell() < 100_000
    assert not (home / "config" / "memories-async" / "config.toml").exists()


def test_show_tells_keys_apart_and_no_more(run: Run, capsys):
    profiles.change("work", {"api_key": KEY, "caption_key": CAPTION_KEY})
    profiles.change("emulator", {"base_url": "http://127.0.0.1:8765"})
    assert run("config", "show", "--json") == 0
    work, emulator = map(json.loads, capsys.readouterr().out.splitlines())
    assert work == {
        "profile": "work",
        "base_url": None,
        "api_key": "sk-\N{HORIZONTAL ELLIPSIS}cdef",
        "caption_key": "sk-\N{HORIZONTAL ELLIPSIS}3210",
        "keyring": False,
    }
    assert emulator["base_url"] == "http://127.0.0.1:8765"
    assert run("config", "show") == 0
    assert "SENTINEL" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("arguments", [("config", "show"), ("jobs", "list")])
def test_a_user_without_a_home_is_told_so(run: Run, arguments, capsys, monkeypatch):
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")  # a container's made-up user

    with monkeypatch.context() as patch:
        for name in ("APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        patch.setattr(Path, "home", home)
        assert run(*arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert error == "memories-async: this user has no home folder: set HOME to one\n"


@pytest.mark.parametrize("variable", ["HOME", "XDG"])
@pytest.mark.parametrize("arguments", [("config", "show"), ("jobs", "list")])
@pytest.mark.skipif(sys.platform == "win32", reason="other variables name the folders there")
def test_a_folder_s_name_of_any_length_fills_no_message(
    run: Run, arguments, variable, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, "/" + "x" * 100_000 if variable == "XDG" else "")
        patch.setenv("HOME", "/" + "x" * 100_000)
        assert run(*arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert "is longer than a path may be" in error
    assert len(error) < 200


@pytest.mark.skipif(sys.platform == "win32", reason="other variables name the folders there")
def test_a_relative_folder_of_xdg_is_ignored_as_its_standard_says(home: Path, monkeypatch):
    """Its jobs would be found from one working folder alone, and paid for again from the next."""
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "here")
    assert profiles.path() == home / ".config/memories-async/config.toml"
    assert job_files.folder() == home / ".local/state/memories-async/jobs"


@pytest.mark.parametrize("arguments", [("config", "show"), ("jobs", "list")])
@pytest.mark.skipif(sys.platform == "win32", reason="other variables name the folders there")
def test_a_relative_home_is_refused(run: Run, arguments, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.delenv(name)
        patch.setenv("HOME", "here")
        assert run(*arguments) == Exit.USAGE
    assert capsys.readouterr().err == "memories-async: HOME is no absolute path: here\n"


def test_change_keeps_what_else_is_in_the_file(run: Run):
    profiles.change("work", {"api_key": KEY})
    written = profiles.path().read_text()
    profiles.path().write_text(f"# mine, all mine\n{written}")
    assert run("config", "set", "base_url", "https://gateway.example.com", "--profile", "work") == 0
    assert profiles.path().read_text().startswith("# mine, all mine\n")
    assert profiles.read()["work"] == Profile(api_key=KEY, base_url="https://gateway.example.com")
    assert run("config", "set", "base_url", "", "--profile", "work") == 0
    assert profiles.read()["work"] == Profile(api_key=KEY)


def test_remove(run: Run, capsys):
    profiles.change("work", {"api_key": KEY})
    profiles.change("home", {"api_key": KEY})
    assert run("config", "remove", "work") == 0
    assert list(profiles.read()) == ["home"]
    assert run("config", "remove", "work") == 2
    assert "there is no profile 'work'" in capsys.readouterr().err


def test_set_refuses_what_is_no_address(run: Run, capsys):
    assert run("config", "set", "base_url", "http://10.0.0.5") == 2
    assert "would send the key in the clear" in capsys.readouterr().err
    assert not profiles.path().exists()


def test_key_refuses_what_no_header_can_carry(run: Run, monkeypatch, capsys):
    pipe_in(monkeypatch, f"Bearer {KEY}\n")
    assert run("config", "key", "api_key") == 2
    assert "without 'Bearer'" in capsys.readouterr().err
    pipe_in(monkeypatch, "\n")
    assert run("config", "key", "api_key") == 4
    error = capsys.readouterr().err
    assert "standard input" in error
    assert "memories-async config key" not in error  # which was just what was called
    assert not profiles.path().exists()


@posix
@pytest.mark.parametrize("bits", [0o040, 0o004, 0o020, 0o002])
def test_file_that_others_may_open_is_refused(run: Run, bits: int, capsys):
    profiles.change("default", {"api_key": KEY})
    profiles.path().chmod(0o600 | bits)
    assert run("config", "show") == 2
    err = capsys.readouterr().err
    assert "is open to other users" in err
    assert "chmod 600" in err
    with pytest.raises(ConfigurationError):
        profiles.change("default", {"base_url": "https://example.com"})


@posix
def test_symbolic_link_is_refused(run: Run, tmp_path: Path, capsys):
    profiles.change("default", {"api_key": "a-key"})
    elsewhere = tmp_path / "elsewhere.toml"
    profiles.path().rename(elsewhere)
    profiles.path().symlink_to(elsewhere)
    assert run("config", "show") == 2
    assert "is a symbolic link" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="symbolic link"):
        profiles.change("default", {"base_url": "https://example.com"})
    profiles.path().unlink()
    profiles.path().symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        profiles.change("default", {"base_url": "https://example.com"})
    assert not (tmp_path / "nowhere").exists()


def test_failed_write_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch):
    profiles.change("default", {"api_key": KEY})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        profiles.change("default", {"api_key": "another"})
    assert profiles.read() == {"default": Profile(api_key=KEY)}
    assert len(list(profiles.path().parent.iterdir())) == 1


@posix
def test_keys_stored_at_once_are_all_kept(home: Path):
    """Twelve processes read, change and write the one file."""
    commands = [
        (("config", "key", "api_key", "--profile", f"number-{number}"), f"{KEY}{number}\n")
        for number in range(12)
    ]
    for status, err in run_at_once(commands):
        assert status == 0, err
    assert {name: profile.api_key for name, profile in profiles.read().items()} == {
        f"number-{number}": f"{KEY}{number}" for number in range(12)
    }
    assert [entry.name for entry in profiles.path().parent.iterdir()] == ["config.toml"]


@posix
@pytest.mark.slow
def test_profiles_removed_and_stored_at_once(home: Path):
    for number in range(6):
        profiles.change(f"old-{number}", {"base_url": "https://example.com"})
    address = ("config", "set", "base_url", "https://example.com")
    commands = [(("config", "remove", f"old-{number}"), "") for number in range(6)]
    commands += [((*address, "--profile", f"new-{number}"), "") for number in range(6)]
    for status, err in run_at_once(commands):
        assert status == 0, err
    assert sorted(profiles.read()) == [f"new-{number}" for number in range(6)]


@posix
@pytest.mark.parametrize("kind", ["fifo", "folder", "socket"])
def test_what_is_no_file_is_refused_at_once(run: Run, kind: str, capsys, monkeypatch):
    """A FIFO used to be waited for, for ever."""
    profiles.change("default", {})
    place = profiles.path()
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place, 0o600)
    elif kind == "folder":
        place.mkdir(0o700)
    else:
        monkeypatch.chdir(place.parent)  # a socket's address is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(place.name)
    assert run("config", "show") == 2
    assert run("embed", "x.png") == 2
    (first, second) = capsys.readouterr().err.splitlines()
    assert "config.toml" in first
    assert "config.toml" in second


@pytest.mark.parametrize("how", ["--profile=", "--profile= "])
@pytest.mark.parametrize(
    "command",
    [("config", "show"), ("config", "key", "api_key"), ("embed", "x.png"), ("jobs", "list")],
)
def test_a_profile_without_a_name_is_refused(run: Run, how: str, command, capsys):
    profiles.change("default", {"api_key": "default-key"})
    assert run(*command, how) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--profile" in line
    assert "a text that is not empty is wanted" in line


@pytest.mark.parametrize(
    "content",
    [
        f'api_key = "{KEY}"',
        f'[default]\napi_key = "{KEY}',
        f'[default]\napi_keys = "{KEY}"',
        f'[default]\nkeyring = "{KEY}"',
        "[default]\napi_key = 5",
        f"[default]\n{KEY}\n",
    ],
)
def test_malformed_file_is_told_without_what_it_holds(run: Run, content: str, capsys):
    profiles.change("default", {})
    profiles.path().write_text(content)
    assert run("config", "show") == 2
    err = capsys.readouterr().err
    assert "config.toml" in err
    assert "SENTINEL" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "x.png", "--api-key", KEY),
        ("embed", "x.png", f"--api-key={KEY}"),
        ("caption", "x.png", "-p", "?", "--caption-key", KEY),
        ("embed", "x.png", "--bogus", KEY),
        ("embed", "x.png", f"--bogus={KEY}"),
        ("embed", "x.png", f"--json={KEY}"),
        ("config", "key", KEY),
        ("config", "key", "api_key", KEY),
        ("config", "set", "api_key", "0123456789abcdef-SENTINEL"),
        ("config", "key", "0123456789abcdef-SENTINEL"),
        (KEY,),
    ],
)
def test_key_is_never_an_argument_and_never_repeated(run: Run, arguments, capsys):
    assert run(*arguments) == 2
    shown = "".join(capsys.readouterr())
    assert shown.startswith("memories-async: ")
    assert "SENTINEL" not in shown
    assert len(shown.splitlines()) == 1


class TestAccount:
    """Address and keys come together from one place."""

    @pytest.fixture(autouse=True)
    def written(self, home: Path) -> None:
        profiles.change("default", {"api_key": "default-key"})
        profiles.change("work", {"api_key": "work-key", "base_url": "https://work.example.com"})

    def test_default_profile(self):
        found = keys.account(None)
        assert (found.base_url, found.keys) == (None, {"api_key": "default-key"})

    def test_environment_comes_before_the_default_profile(self, monkeypatch):
        monkeypatch.setenv("MEMORIES_CAPTION_KEY", CAPTION_KEY)
        found = keys.account(None)
        assert found.keys == {"caption_key": CAPTION_KEY}

    @pytest.mark.parametrize("by_variable", [True, False])
    def test_named_profile_counts_alone(self, monkeypatch, by_variable: bool):
        monkeypatch.setenv("MEMORIES_CAPTION_KEY", CAPTION_KEY)
        monkeypatch.setenv("MEMORIES_BASE_URL", "https://elsewhere.example.com")
        if by_variable:
            monkeypatch.setenv("MEMORIES_PROFILE", "work")
        found = keys.account(None if by_variable else "work")
        assert found.base_url == "https://work.example.com"
        assert found.keys == {"api_key": "work-key"}
        client = keys.connect(found, "api_key")
        assert client._settings.caption_key is None
        assert client._settings.base_url == "https://work.example.com"
        assert os.environ["MEMORIES_CAPTION_KEY"] == CAPTION_KEY

    def test_keys_of_a_profile_go_to_no_other_address(self, monkeypatch):
        monkeypatch.setenv("MEMORIES_BASE_URL", "https://elsewhere.example.com")
        with pytest.raises(ConfigurationError, match="are for the real service"):
            keys.account(None)

    def test_missing_profile(self):
        with pytest.raises(ConfigurationError, match="no profile 'nowhere'"):
            keys.account("nowhere")
        with pytest.raises(ConfigurationError, match="no profile 'xxx") as caught:
            keys.account("x" * 100_000)  # a variable may hold anything
        assert len(str(caught.value)) < 500

    def test_missing_key_where_nobody_can_be_asked(self, monkeypatch):
        pipe_in(monkeypatch, "")
        with pytest.raises(NoKey, match="MEMORIES_CAPTION_KEY"):
            keys.connect(keys.account("work"), "caption_key")

    def test_account_does_not_show_its_keys(self):
        assert "work-key" not in repr(keys.account("work"))
        assert "work-key" not in repr(profiles.read())


class TestKeyring:
    """Keys in the system's keyring, by the package of that name."""

    @pytest.fixture(autouse=True)
    def store(self, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
        keyring = pytest.importorskip("keyring")
        backend = pytest.importorskip("keyring.backend")
        store: dict[tuple[str, str], str] = {}

        class Memory(backend.KeyringBackend):
            priority = 1

            def get_password(self, service, username):
                return store.get((service, username))

            def set_password(self, service, username, password):
                store[service, username] = password

            def delete_password(self, service, username):
                del store[service, username]

        before = keyring.get_keyring()
        keyring.set_keyring(Memory())
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{KEY}\n"))
        yield store
        keyring.set_keyring(before)

    def test_key_is_in_the_keyring_and_not_in_the_file(self, run: Run, store):
        assert run("config", "key", "api_key", "--keyring", "--profile", "work") == 0
        assert store == {("memories-async", "work/api_key"): KEY}
        assert "SENTINEL" not in profiles.path().read_text()
        assert keys.account("work").keys == {"api_key": KEY}

    def test_removed_with_the_profile(self, run: Run, store):
        run("config", "key", "api_key", "--keyring")
        assert run("config", "remove", "default") == 0
        assert store == {}

    def test_refusal_is_one_line(self, run: Run, capsys):
        import keyring
        from keyring.backends.fail import Keyring

        keyring.set_keyring(Keyring())
        assert run("config", "key", "api_key", "--keyring") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "the system's keyring refused" in line

    @pytest.mark.parametrize(
        "trouble",
        [
            RuntimeError(f"what was stored: {KEY}"),
            ImportError("no dbus"),
            OSError("no session"),
            KeyError("login"),
            AssertionError(),
        ],
    )
    @pytest.mark.parametrize("command", ["store", "use", "remove"])
    def test_odd_keyring_is_one_line(self, run: Run, monkeypatch, trouble, command, image, capsys):
        import keyring

        def fail(*_: object) -> None:
            raise trouble

        profiles.change("default", {"keyring": True})
        for method in ("get_password", "set_password", "delete_password"):
            monkeypatch.setattr(keyring, method, fail)
        arguments = {
            "store": ("config", "key", "api_key", "--keyring"),
            "use": ("embed", image),
            "remove": ("config", "remove", "default"),
        }
        assert run(*arguments[command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "the system's keyring" in line
        assert "SENTINEL" not in line

    @pytest.mark.parametrize("value", [b"bytes", 5, object()])
    def test_keyring_that_returns_no_text(self, run: Run, monkeypatch, value, image, capsys):
        import keyring

        profiles.change("default", {"keyring": True})
        monkeypatch.setattr(keyring, "get_password", lambda *_: value)
        assert run("embed", image) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "the system's keyring" in line

    def test_broken_package(self, run: Run, monkeypatch, capsys):
        """Importing keyring looks for backends, and any of them may fail to load."""
        broken = types.ModuleType("keyring")
        monkeypatch.setitem(sys.modules, "keyring", broken)
        monkeypatch.setitem(sys.modules, "keyring.errors", None)
        assert run("config", "key", "api_key", "--keyring") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "keyring" in line

    def test_missing_package(self, run: Run, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "keyring", None)
        assert run("config", "key", "api_key", "--keyring") == 2
        assert "memories-async[keyring]" in capsys.readouterr().err
