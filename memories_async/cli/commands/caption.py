"""memories-async caption: what images or videos show."""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from memories_async.captions import VIDEO_SYSTEM_PROMPT, Person
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.job_commands import start
from memories_async.cli.options import MAKING, RUNNING, SHARED, Making, MediaKind, Running, Shared
from memories_async.cli.output import Output, extra
from memories_async.cli.sources import kind_of, one_of
from memories_async.config import CallOptions
from memories_async.errors import ConfigurationError


async def caption(
    sources: list[str],
    /,
    *,
    prompt: Annotated[str, Parameter(name=("--prompt", "-p"))],
    as_: Annotated[MediaKind | None, Parameter(name="--as")] = None,
    together: bool = False,
    system_prompt: str | None = None,
    person: tuple[str, ...] = (),
    thinking: bool = False,
    qa: bool = False,
    reasoning_effort: int | None = None,
    answer_timeout: float | None = None,
    making: Making = MAKING,
    running: Running = RUNNING,
    shared: Shared = SHARED,
) -> int:
    """Describe an image or a video; many of them are a job that can be resumed.

    Args:
        sources: Files or URLs; for a job also folders, patterns, lists (.txt) and .jsonl files.
        prompt: What to say or to answer.
        as_: What the sources are, where their names do not say it.
        together: Describe several images in one text.
        system_prompt: What the model is told to be.
        person: Someone to recognise in a video: NAME=URL of a picture. May be repeated.
        thinking: Use the reasoning model.
        qa: Answer in the style of a conversation.
        reasoning_effort: 1 to 10, or -1 to let the model decide.
        answer_timeout: Seconds to wait for an answer once all is sent (300 if not given).
        making: How a job is made.
        running: How a job is run.
        shared: What every command understands.
    """
    kind = as_ or kind_of(sources)
    persons = [_person(text) for text in person]
    source = None if (making, running) != (MAKING, RUNNING) else one_of(sources)
    if source is None and not together:
        options = {
            "prompt": prompt,
            "system_prompt": system_prompt,
            "thinking": thinking or None,
            "qa": qa or None,
            "reasoning_effort": reasoning_effort,
            "persons": [attrs.asdict(person) for person in persons] or None,
        }
        return await start(
            f"caption_{kind}s", sources, options, making, running, shared, answer_timeout
        )
    if kind == "image" and persons:
        raise ConfigurationError("--person is for videos")
    if kind == "video" and together:
        raise ConfigurationError("--together is for images")
    output = Output.of(shared)
    label = source or f"{len(sources)} images"
    call = CallOptions(answer_timeout=answer_timeout)
    async with connect(account(shared.profile), "caption_key") as client:
        with output.reporting(label), output.upload(label) as hook:
            if kind == "image":
                found = await client.captions.image(
                    sources,
                    prompt,
                    system_prompt=system_prompt,
                    thinking=thinking,
                    qa=qa,
                    reasoning_effort=reasoning_effort,
                    on_progress=hook,
                    options=call,
                )
            else:
                found = await client.captions.video(
                    sources[0],
                    prompt,
                    system_prompt=system_prompt or VIDEO_SYSTEM_PROMPT,
                    persons=persons,
                    thinking=thinking,
                    qa=qa,
                    reasoning_effort=reasoning_effort,
                    on_progress=hook,
                    options=call,
                )
    row: dict[str, object] = {"source": label, "status": "done", "text": found.text}
    if found.tokens:
        row |= {"input_tokens": found.tokens.input, "output_tokens": found.tokens.output}
    output.result(row | extra(found), found.text)
    return Exit.DONE


def _person(text: str) -> Person:
    name, equals, url = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--person is NAME=URL, not {text!r}")
    return Person(name, url)
