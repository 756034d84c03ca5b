"""The plugin in other people's test suites: with pytest-asyncio, with anyio's plugin, with neither.

Each suite runs in a process of its own, with its own configuration.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest

import memories_async
from memories_async.emulator import InjectedFault
from memories_async.testing.plugin import MARKER
from tests import suites

PROJECT = Path(memories_async.__file__).parent.parent
NEITHER = "[pytest]\naddopts = -p no:asyncio -p no:anyio\nfilterwarnings = error\n"
ANYIO = "[pytest]\naddopts = -p no:asyncio\nfilterwarnings = error\n"
ASYNCIO = (
    "[pytest]\naddopts = -p no:anyio\nasyncio_mode = auto\nfilterwarnings = error\n"
    "asyncio_default_fixture_loop_scope = function\n"
)


def run(
    folder: Path, configuration: str, tests: str, *, started: bool = False, **files: str
) -> str:
    """Run a suite of one file; return what pytest prints."""
    (folder / "pytest.ini").write_text(configuration)
    (folder / "test_application.py").write_text(textwrap.dedent(tests))
    for name, content in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(content))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MEMORIES_")
    }
    done = suites.run("-rA", ".", folder=folder, environment=environment, started=started)
    return f"{done.stdout}{done.stderr}\nexit status {done.returncode}"


def passed(output: str, count: int) -> None:
    assert f"{count} passed" in output, output
    assert "exit status 0" in output, output


def test_it_is_found_by_pytest() -> None:
    [entry] = importlib.metadata.entry_points(group="pytest11", name="memories_async")
    assert entry.value == "memories_async.testing.plugin"


def test_it_costs_a_suite_that_does_not_use_it_nothing(tmp_path: Path) -> None:
    passed(
        run(
            tmp_path,
            NEITHER,
            """
            import sys

            def test_no_server_and_no_aiohttp():
                assert "memories_async.testing.plugin" in sys.modules
                loaded = {name.partition(".")[0] for name in sys.modules}
                assert not loaded & {"aiohttp", "numpy", "PIL", "av"}
            """,
            started=True,
        ),
        1,
    )


ASYNC_TESTS = """
    import os

    {mark}
    async def test_a_caption(memories, memories_emulator):
        memories_emulator.answers.add("captions.image", text="A rabbit on a meadow.")
        caption = await memories.captions.image(b"\\x89PNG\\r\\n\\x1a\\n a picture", "What is it?")
        assert caption.text == "A rabbit on a meadow."
        memories_emulator.assert_billed(1)

    {mark}
    async def test_another_starts_afresh(memories, memories_emulator):
        memories_emulator.assert_billed(0)
        caption = await memories.captions.image(b"\\x89PNG\\r\\n\\x1a\\n a picture", "What is it?")
        assert "rabbit" not in caption.text

    {mark}
    async def test_an_application_that_makes_its_own_client(memories_emulator):
        from memories_async import Memories

        async with Memories() as client:
            assert [video async for video in client.library.videos()] == []
        assert len(memories_emulator.ledger) == 1
"""


def test_with_pytest_asyncio(tmp_path: Path) -> None:
    passed(run(tmp_path, ASYNCIO, ASYNC_TESTS.format(mark="")), 3)


def test_with_anyio(tmp_path: Path) -> None:
    suite = "    import pytest\n" + ASYNC_TESTS.format(mark="@pytest.mark.anyio")
    configuration = """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
    """
    passed(run(tmp_path, ANYIO, suite, conftest=configuration), 3)


def test_with_neither_in_both_colours(tmp_path: Path) -> None:
    passed(
        run(
            tmp_path,
            NEITHER,
            """
            import asyncio

            PNG = b"\\x89PNG\\r\\n\\x1a\\n a picture"

            def test_blocking(blocking_memories, memories_emulator):
                memories_emulator.answers.add("captions.image", text="A rabbit.")
                assert blocking_memories.captions.image(PNG, "What is it?").text == "A rabbit."
                memories_emulator.assert_billed(1, "captions.image")

            def test_with_a_loop_of_its_own(memories, memories_emulator):
                async def both():
                    return await asyncio.gather(
                        *(memories.embeddings.image(PNG) for _ in range(2))
                    )

                first, second = asyncio.run(both())
                assert first == second
                memories_emulator.assert_billed(2)

            def test_the_environment_is_left_as_it_was():
                import os

                assert not any(name.startswith("MEMORIES_") for name in os.environ)
            """,
        ),
        3,
    )


def test_faults_by_a_marker(tmp_path: Path) -> None:
    passed(
        run(
            tmp_path,
            NEITHER,
            """
            import pytest
            from memories_async import InsufficientCredits

            PNG = b"\\x89PNG\\r\\n\\x1a\\n a picture"

            @pytest.mark.memories_fault("embeddings.image", "no_credits")
            def test_no_credits(blocking_memories, memories_emulator):
                with pytest.raises(InsufficientCredits):
                    blocking_memories.embeddings.image(PNG)
                memories_emulator.assert_billed(0)

            def test_the_fault_went_with_its_test(blocking_memories):
                blocking_memories.embeddings.image(PNG)
            """,
        ),
        2,
    )


def test_a_wrong_count_shows_the_ledger(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        NEITHER,
        """
        PNG = b"\\x89PNG\\r\\n\\x1a\\n a picture"

        def test_a_caption(blocking_memories, memories_emulator):
            blocking_memories.captions.image(PNG, "What is it?")
            memories_emulator.assert_billed(2)
        """,
    )
    assert "1 requests were billed, not 2:" in output
    assert "1. caption_image_file POST /v1/understand/uploadImgFile" in output
    assert "HTTP 200 code 0, billed" in output


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('"captions.image", "tired"', "no reason is called 'tired': one of BAD_REQUEST"),
        ('"captions.song", "server"', "No operation is called 'captions.song'"),
        ("", "an effect or a latency is wanted"),
        ('"captions.image", "server", time=2', "got an unexpected keyword argument 'time'"),
        ('"captions.image", reason="server"', "memories_fault(operation, effect, *, nth=1"),
        ('"captions.image", "server", nth=0', "nth is 0; a whole number from 1 is wanted"),
        ('"captions.image", 402', "effect is 402"),
    ],
)
def test_a_wrong_marker_is_named(tmp_path: Path, mark: str, message: str) -> None:
    output = run(
        tmp_path,
        NEITHER,
        f"""
        import pytest

        @pytest.mark.memories_fault({mark})
        def test_nothing(memories_emulator):
            pass
        """,
    )
    assert message in output


def test_a_marker_without_an_emulator_is_refused(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        NEITHER,
        """
        import pytest

        pytestmark = pytest.mark.memories_fault("captions.image", "server")

        def test_nothing():
            pass

        @pytest.mark.usefixtures("memories_emulator")
        def test_behind_an_application():
            pass
        """,
    )
    assert "1 passed, 1 error" in output
    assert "uses neither memories_emulator nor a client of it" in output


def test_what_is_said_of_the_marker_is_what_it_takes() -> None:
    """To pytest, in the documentation, and by the fault that is made of it."""
    marker = inspect.signature(InjectedFault)
    said = ast.parse(f"def {MARKER}: pass").body[0]
    assert isinstance(said, ast.FunctionDef)
    assert [each.arg for each in (*said.args.args, *said.args.kwonlyargs)] == [*marker.parameters]
    defaults = [ast.literal_eval(default) for default in said.args.kw_defaults if default]
    assert defaults == [each.default for each in marker.parameters.values()][2:]
    readme = (PROJECT / "memories_async" / "testing" / "README.md").read_text()
    assert f"`{MARKER}`" in readme


def test_an_engine_of_one_s_own(tmp_path: Path) -> None:
    passed(
        run(
            tmp_path,
            NEITHER + "memories_engine = pixels\n",
            """
            import pytest

            def test_pixels_are_looked_at(blocking_memories):
                with pytest.raises(Exception, match="cannot be read as a picture"):
                    blocking_memories.captions.image(b"\\x89PNG\\r\\n\\x1a\\n no picture", "?")
            """,
        ),
        1,
    )


def test_the_readme_s_tests_pass(tmp_path: Path) -> None:
    """They are run as they stand; only the fixtures that replace another are compiled alone."""
    media = PROJECT / "examples" / "media"
    shutil.copy(media / "frame-1.3s.jpg", tmp_path / "photo.jpg")
    shutil.copy(media / "bigbuckbunny.mp4", tmp_path / "holiday.mp4")
    text = (PROJECT / "memories_async" / "testing" / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    tests = [block for block in blocks if "def test_" in block]
    assert len(tests) == 2
    passed(run(tmp_path, ASYNCIO, "\n\n".join(tests)), 4)
