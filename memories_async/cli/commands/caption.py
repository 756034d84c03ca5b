"""memories-async caption: what images or videos show."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from memories_async.captions import VIDEO_SYSTEM_PROMPT, Person
from memories_async.cli import checks
from memories_async.cli.credentials import account, connect
from memories_async.cli.exit_codes import Exit
from memories_async.cli.interrupts import one_call
from memories_async.cli.job_commands import start
from memories_async.cli.options import (
    CALLING,
    MAKING,
    RUNNING,
    SHARED,
    Calling,
    Making,
    MediaKind,
    Running,
    Shared,
    Sources,
    Text,
    Texts,
    job_options,
)
from memories_async.cli.sources import kind_of, one_of
from memories_async.cli.terminal.output import Output, extra
from memories_async.errors import ConfigurationError
from memories_async.media.urls import is_url

Effort: TypeAlias = Annotated[int, Parameter(converter=checks.whole, validator=checks.effort)]


async def caption(
    sources: Sources,
    /,
    *,
    prompt: Annotated[Text, Parameter(name=("--prompt", "-p"))],
    as_: Annotated[MediaKind | None, Parameter(name="--as")] = None,
    together: bool = False,
    system_prompt: Text | None = None,
    person: Texts = (),
    thinking: bool = False,
    qa: bool = False,
    reasoning_effort: Effort | None = None,
    making: Making = MAKING,
    running: Running = RUNNING,
    calling: Calling = CALLING,
    shared: Shared = SHARED,
) -> int:
    """Describe an image or a video; many of them are a job that can be resumed.

    Args:
        sources: Files or URLs; for a job also folders, patterns, lists (.txt), .jsonl files, and -
            for names on standard input.
        prompt: What to say or to answer.
        as_: What the sources are, where their names do not say it.
        together: Describe several images in one text.
        system_prompt: What the model is told to be.
        person: Someone to recognise in a video: NAME=URL of a picture. May be repeated.
        thinking: Use the reasoning model.
        qa: Answer in the style of a conversation.
        reasoning_effort: 1 to 10, or -1 to let the model decide.
        making: How a job is made.
        running: How a job is run.
        calling: How the service is called.
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
        return await start(f"caption_{kind}s", sources, options, making, running, shared, calling)
    if jobs_only := job_options(making, running):
        raise ConfigurationError(
            f"--together is one call: it does not go with {', '.join(jobs_only)}"
        )
    if kind == "image" and persons:
        raise ConfigurationError("--person is for videos")
    if kind == "video" and together:
        raise ConfigurationError("--together is for images")
    output = Output.of(shared)
    label = source or f"{len(sources)} images"
    async with connect(account(shared.profile), "caption_key", calling) as client:
        with output.reporting(label), output.upload(label) as hook, one_call() as call:
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
    output.paid((row | extra(found), found.text))
    return Exit.DONE


def _person(text: str) -> Person:
    name, _, url = text.partition("=")
    if not name.strip() or not is_url(url):
        raise ConfigurationError(f"--person is {text!r}; NAME=URL is wanted")
    return Person(name, url)
