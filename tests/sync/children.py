"""Programs that tests run in a process of their own: ``python -m tests.sync.children NAME URL``."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from memories_async import Bucket, Caption, ClosedError, Outcome, Rate
from memories_async import Memories as AsyncMemories
from memories_async.callbacks import SqliteStore
from memories_async.limiters import SHARED
from memories_async.sync import CallbackInbox, Job, Memories, _loop_thread, _portal

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(1000)
IMAGE_URL = "https://example.com/a.png"

# An exit that waited for calls to unwind would be minutes late, on whatever machine.
_loop_thread.CANCEL_TIMEOUT = _portal.CANCEL_TIMEOUT = CANCEL_TIMEOUT = 600.0

# In development mode asyncio tells of each callback that takes a tenth of a second: where other
# processes want the processor, any does.
logging.getLogger("asyncio").addFilter(lambda told: not told.getMessage().startswith("Executing "))

# What a script holds at its top level lives until the interpreter takes it apart.
client: Memories
asyncio_client: AsyncMemories
batch: Iterator[Outcome[Caption]]
inbox: CallbackInbox
job: Job


def say(*words: object) -> None:
    print(*words, flush=True)


def listen() -> str:
    return sys.stdin.readline().strip()


def caption() -> str:
    return "captioned" if client.captions.image(PNG, "what").text else "no text"


def exit_child(status: int = 0) -> None:
    """End a forked child as a program ends: with everything that the interpreter does then."""
    sys.exit(status)


# Endings.


def leave_unclosed() -> None:
    say(caption())


def leave_closed() -> None:
    with client:
        say(caption())


def leave_in_a_batch() -> None:
    global batch
    batch = client.captions.images([PNG] * 10, "what", concurrency=2)
    say("captioned" if next(batch).unwrap().text else "no text")


def leave_with_a_call_in_a_daemon_thread() -> None:
    threading.Thread(target=client.captions.image, args=(IMAGE_URL, "what"), daemon=True).start()
    listen()


def leave_by_an_exception() -> None:
    say(caption())
    raise SystemExit(3)


def leave_by_ctrl_c() -> None:
    say("calling")
    client.captions.image(IMAGE_URL, "what")


def be_collected() -> None:
    global client
    say(caption())
    thread = next(thread for thread in threading.enumerate() if thread.name == "memories-async")
    del client
    gc.collect()
    thread.join(60)
    say("ended" if not thread.is_alive() else "alive")


class Holder:
    """Holds a client and a batch of it, and itself."""

    def __init__(self) -> None:
        self.itself = self
        self.client = Memories("sk-mavi", caption_key="sk-mavi", base_url=sys.argv[2])
        self.batch = self.client.captions.images([PNG] * 10, "what", concurrency=2)


def be_collected_in_a_cycle_with_a_batch() -> None:
    holder = Holder()
    say("captioned" if next(holder.batch).unwrap().text else "no text")
    del holder
    began = time.monotonic()
    gc.collect()
    say("at once" if time.monotonic() - began < CANCEL_TIMEOUT / 2 else "late")


# The inbox.


def inbox_at(folder: str) -> CallbackInbox:
    store = SqliteStore(os.path.join(folder, "callbacks.db"))
    return CallbackInbox("https://app.example.com/memories", store=store)


def receive(inbox: CallbackInbox) -> str:
    """Open an address, post to it, and look: all that an inbox does with its store."""
    address = inbox.address_for_video()
    inbox.receive(address, b'{"videoNo": "VI1", "status": "PARSE"}')
    return inbox.video(address, timeout=0).video_no or ""


def leave_an_inbox_unclosed() -> None:
    global inbox
    inbox = inbox_at(sys.argv[2])
    say(receive(inbox))


def leave_an_inbox_closed() -> None:
    with inbox_at(sys.argv[2]) as inbox:
        say(receive(inbox))


def leave_an_inbox_that_waits_in_a_daemon_thread() -> None:
    global inbox
    inbox = inbox_at(sys.argv[2])
    say(receive(inbox))
    waiting = threading.Thread(target=inbox.result, args=("task-1",), daemon=True)
    waiting.start()
    listen()


def wait_for_ctrl_c() -> None:
    with inbox_at(sys.argv[2]) as inbox:
        say(receive(inbox))
        inbox.result("task-1", timeout=None)


def inbox_in_threads() -> None:
    with inbox_at(sys.argv[2]) as inbox, ThreadPoolExecutor(8) as threads:
        say(*threads.map(receive, [inbox] * 8))


def fork_with_an_inbox() -> None:
    inbox = inbox_at(sys.argv[2])
    say("parent", receive(inbox))

    def in_child() -> None:
        say("child", receive(inbox))
        say("child", receive(inbox))
        inbox.close()

    say("child ended with", fork_and(in_child))
    say("parent", receive(inbox))
    inbox.close()


def forked_workers_with_an_inbox() -> None:
    global inbox
    inbox = inbox_at(sys.argv[2])
    say("parent", receive(inbox))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say(*pool.map(receive_in_a_worker, range(6), chunksize=1))
    say("parent", receive(inbox))


def receive_in_a_worker(number: int) -> str:
    return receive(inbox)


# The job.


def new_job() -> Job:
    folder = os.environ["JOB_FOLDER"]
    return Job.create(f"{folder}/pictures.job", "embed_images", f"{folder}/pictures")


def outcome(job: Job) -> str:
    counts = job.counts()
    return f"{counts.done} done, {counts.unknown} unknown, {counts.planned} planned"


def run_a_job() -> None:
    threads: set[str] = set()
    with new_job() as job:
        job.run(client, on_event=lambda _: threads.add(threading.current_thread().name))
        say(outcome(job), *threads)
        say(len(list(job.items())), "items,", job.export(f"{job.path}.jsonl"), "exported")


def run_a_job_in_a_thread() -> None:
    thread = threading.Thread(target=run_a_job, name="worker")
    thread.start()
    thread.join()


def run_a_job_until_ctrl_c() -> None:
    with new_job() as job:
        try:
            job.run(client, concurrency=4, on_event=lambda event: say(type(event).__name__))
        except KeyboardInterrupt as interrupt:
            say("interrupted:", outcome(job), "noted" if interrupt.__notes__ else "")


def stop_a_job_from_another_thread() -> None:
    with new_job() as job:
        threading.Thread(target=lambda: (listen(), job.stop())).start()
        begun = iter(["begun"])
        report = job.run(client, concurrency=2, on_event=lambda _: [say(word) for word in begun])
        say(report.stopped.reason.value if report.stopped else "not stopped", outcome(job))


def fork_with_a_job() -> None:
    with new_job() as job:
        say("parent", outcome(job))

        def in_child() -> None:
            say("child", outcome(job))
            job.run(client)
            say("child", outcome(job))
            job.close()

        say("child ended with", fork_and(in_child))
        say("parent", outcome(job))


def leave_a_job_unclosed() -> None:
    global job
    job = new_job()
    job.run(client)
    say(outcome(job))


# Forks.


def fork_and(in_child: Callable[[], None]) -> int:
    """Run a function in a forked child; return its exit status."""
    process = os.fork()
    if process == 0:
        in_child()
        exit_child()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fork_after_a_call() -> None:
    say("parent", caption())

    def in_child() -> None:
        say("child", caption())
        say("child", caption())

    say("child ended with", fork_and(in_child))
    say("parent", caption())


def fork_and_close_in_the_child() -> None:
    say("parent", caption())

    def in_child() -> None:
        client.close()
        try:
            caption()
        except ClosedError:
            say("child closed")

    say("child ended with", fork_and(in_child))
    say("parent", caption())


def collect() -> None:
    gc.collect()


def fork_and_do_nothing() -> None:
    say("parent", caption())
    say("child ended with", fork_and(collect))
    say("parent", caption())


def fork_a_child_that_drops_the_client() -> None:
    global client
    say("parent", caption())

    def in_child() -> None:
        global client
        del client
        gc.collect()

    say("child ended with", fork_and(in_child))
    say("parent", caption())


def fork_in_the_middle() -> None:
    """Fork while another thread uploads from a pipe; the rest of the film comes afterwards."""
    receiving, sending = os.pipe()
    under_way = threading.Event()
    texts: list[str] = []

    def upload() -> None:
        with os.fdopen(receiving, "rb") as film:
            made = client.captions.video(film, "what", on_progress=lambda _: under_way.set())
            texts.append(made.text)

    os.write(sending, MP4)
    thread = threading.Thread(target=upload)
    thread.start()
    under_way.wait()

    def in_child() -> None:
        os.close(sending)
        say("child", caption())
        gc.collect()

    say("child ended with", fork_and(in_child))
    os.write(sending, bytes(1000))
    os.close(sending)
    thread.join()
    say("parent", "uploaded" if texts else "failed")
    say("parent", caption())


def fork_after_a_counted_call() -> None:
    global client
    rates = {Bucket.CAPTION_IMAGE: Rate(100)}
    client = Memories("sk-mavi", caption_key="sk-mavi", base_url=sys.argv[2], rates=rates)
    say("parent", caption(), len(SHARED._counts))

    def in_child() -> None:
        # The counts have a lock, which a thread may hold that the child does not have.
        say("child", len(SHARED._counts), caption())

    say("child ended with", fork_and(in_child))
    say("parent", caption(), len(SHARED._counts))


def fork_within_a_batch() -> None:
    iterating = client.captions.images([PNG] * 3, "what", ordered=True)
    say("parent", next(iterating).index)

    def in_child() -> None:
        try:
            next(iterating)
        except RuntimeError as error:
            say("child", error)
        say("child", caption())

    say("child ended with", fork_and(in_child))
    say("parent", *[outcome.index for outcome in iterating if outcome.unwrap().text])


def fork_with_the_asyncio_client() -> None:
    async def call() -> str:
        return "captioned" if (await asyncio_client.captions.image(PNG, "what")).text else ""

    loop = asyncio.new_event_loop()
    say("parent", loop.run_until_complete(call()))

    def in_child() -> None:
        say("child", asyncio.run(call()))
        os._exit(0)  # the loop is this program's, and it would complain that nobody closed it

    say("child ended with", fork_and(in_child))
    say("parent", loop.run_until_complete(call()))
    loop.run_until_complete(asyncio_client.aclose())
    loop.close()


def fork_and_close_the_asyncio_client() -> None:
    async def call() -> str:
        return "captioned" if (await asyncio_client.captions.image(PNG, "what")).text else ""

    loop = asyncio.new_event_loop()
    say("parent", loop.run_until_complete(call()))

    def in_child() -> None:
        # On the loop that both have: what the parent keeps open there must stay open.
        loop.run_until_complete(asyncio_client.aclose())
        say("child closed")
        os._exit(0)

    say("child ended with", fork_and(in_child))
    say("parent", loop.run_until_complete(call()))
    loop.run_until_complete(asyncio_client.aclose())
    loop.close()


def caption_in_a_worker(number: int) -> str:
    return f"worker {caption()}"


def forked_workers() -> None:
    say("parent", caption())
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say(*pool.map(caption_in_a_worker, range(4), chunksize=1))
    say("parent", caption())


def spawned_workers() -> None:
    with client, multiprocessing.get_context("spawn").Pool(1) as pool:
        vectors = [embedding.vector for embedding in pool.map(client.embeddings.image, [PNG, PNG])]
        say("worker", "embedded" if vectors == [client.embeddings.image(PNG).vector] * 2 else "?")


# Loops.


def one_loop_after_the_other() -> None:
    for _ in range(3):
        asyncio.run(asyncio_client.captions.image(PNG, "what"))
    say("captioned")


def a_loop_in_each_thread() -> None:
    def call() -> None:
        asyncio.run(asyncio_client.captions.image(PNG, "what"))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say("captioned")


def main() -> None:
    """Run what the arguments name."""
    global client, asyncio_client
    name, url = sys.argv[1:3]
    # In development mode asyncio also logs each callback that was slow, as on a busy machine.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    if not url.startswith("http"):  # a folder: nothing is called
        url = "http://127.0.0.1:1"
    client = Memories("sk-mavi-0123456789", caption_key="sk-mavi-0123456789", base_url=url)
    asyncio_client = AsyncMemories("sk-mavi-0123456789", caption_key="caption", base_url=url)
    try:
        globals()[name]()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    say("leaving")


if __name__ == "__main__":
    main()
