"""Two of what there should be one of, at work at the same time."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ledger.connection import PREFIX
from ledger.health import IMAGE_QUEUE
from tests.chaos.case import case
from tests.chaos.pictures import picture
from tests.chaos.role import RoleProcess
from tests.chaos.world import World

#: Pictures of one upload: with a poll between any two of them, monitors are never without work.
WAVE = 10
SCHEDULER = "import tests.chaos.quick_schedule; from job_system import roles; roles.run_scheduler()"


def flow(world: World, pictures: int) -> None:
    """Upload in waves, the next one as soon as the last but one is seen."""
    for start in range(0, pictures, WAVE):
        world.upload(range(start, start + WAVE))
        world.wait(lambda seen=start - WAVE: world.ledger.audit().seen >= seen, 90, "the waves before are seen")


def new_images(process: RoleProcess) -> int:
    """How many images a moderator was the first to see."""
    return sum(int(found) for found in re.findall(r"source polled .*new=(\d+)", process.output()))


def monitors(world: World) -> list[RoleProcess]:
    """Two monitors that poll as quickly as they can, and one processor."""
    quick = {"WEAVLOADER_POLL_BUSY": "0.02", "WEAVLOADER_POLL_IDLE": "0.02"}
    pair = [world.role("moderator") for _ in range(2)]
    for _ in range(2):
        world.role("stream", **quick)
    world.role("processor")
    for moderator in pair:
        moderator.says("monitor_data_stream", 90)
    return pair


def each_was_new_once(world: World, pair: list[RoleProcess]) -> None:
    """No image was new to both."""

    def found() -> list[int]:
        return [new_images(moderator) for moderator in pair]

    world.wait(lambda: sum(found()) >= len(world.attempted), 90, "all are said to be new")
    assert sum(found()) == len(world.attempted), f"new to the monitors were {found()}"
    world.note = f"new to the two monitors: {found()[0]} and {found()[1]}"


@case("two_monitors", short=True, most_calls=lambda attempted: attempted)
def two_monitors(world: World) -> None:
    """Two moderators and two streams poll the same source: one at a time, and each image is new to one of them."""
    world.source.query_seconds = 0.3
    pair = monitors(world)
    flow(world, 150)
    each_was_new_once(world, pair)
    assert world.source.most_queries == 1, "the source was asked twice at once"
    assert any("'running': True" in moderator.output() for moderator in pair), "the monitors did not meet"


@case("two_monitors_without_lock", most_calls=lambda attempted: attempted)
def two_monitors_without_lock(world: World) -> None:
    """The same while the lock between them is taken away again and again, so that their rounds overlap."""
    world.source.query_seconds = 0.3
    with repeatedly(lambda: world.valkey.client.delete(f"{PREFIX}lock:monitor")):
        pair = monitors(world)
        flow(world, 150)
        each_was_new_once(world, pair)
    assert world.source.most_queries > 1, "the rounds did not overlap"


@contextmanager
def repeatedly(act: Callable[[], object], seconds: float = 0.002) -> Iterator[None]:
    """Do something again and again beside the block."""
    ended = threading.Event()

    def go() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@case("two_schedulers", WEAVLOADER_RETRY_DELAYS="0.1")
def two_schedulers(world: World) -> None:
    """Two schedulers and two cleaners replay dead letters, archive and sweep several times a second; the acting
    scheduler is killed, and the other one takes over.
    """
    world.roles()
    world.role("processor")
    world.upload(range(100))
    broken = world.upload(range(100, 160))
    paths = {world.links[image].removeprefix(world.source.url("")): world.attempted[image] for image in broken}
    for path in paths:
        world.source.answer(path, status=500)
    world.wait(lambda: world.ledger.audit().dead == len(broken), 60, f"{len(broken)} dead letters of a transient cause")
    for path, number in paths.items():
        world.source.answer(path, picture(number), login=True)

    first = world.start("scheduler", sys.executable, "-c", SCHEDULER)
    first.says("Acquired lock", 30)
    second = world.start("scheduler", sys.executable, "-c", SCHEDULER)
    cleaners = [world.role("cleaner") for _ in range(2)]
    second.says("Starting", 30)
    world.upload(range(160, 260))
    world.wait(lambda: not world.ledger.audit().dead, 60, "the letters are replayed")
    first.kill()
    second.says("Acquired lock", 40)
    world.upload(range(260, 300))
    for cleaner in cleaners:
        cleaner.says("sweep_ledger", 20)


@case(
    "two_sweeps", WEAVLOADER_IN_FLIGHT="16", WEAVLOADER_RETRY_DELAYS="0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2,0.2"
)
def two_sweeps(world: World) -> None:
    """Three processors and two cleaners sweep every second while a third of the captions fail and wait, and the
    broker's queue is emptied in the middle, so that its messages are lost.
    """
    world.control(chaos_captioner={"error": 0.3})
    for name in ("moderator", "stream", "cleaner", "cleaner", "processor", "processor", "processor"):
        world.role(name)
    world.upload(range(400))
    world.midway(0.2)
    lost = world.valkey.client.llen(IMAGE_QUEUE)
    world.valkey.client.delete(IMAGE_QUEUE)
    assert lost > 0, "the queue was empty already"
    world.note = f"{lost} messages lost"
    world.wait(lambda: world.landed() == len(world.attempted), 60, "all landed")
    sweepers = [process for process in world.processes if "images put back to work" in process.output()]
    assert len(sweepers) > 1, "only one process has swept"


@case("frozen_processor", WEAVLOADER_IN_FLIGHT="16", most_calls=lambda attempted: attempted + 16)
def frozen_processor(world: World) -> None:
    """A processor stands still for longer than its leases last, and goes on when others have its images."""
    world.roles()
    world.role("processor")
    world.upload(range(300))
    world.midway()
    late = world.running("processor")[0]
    late.signal(signal.SIGSTOP)
    world.wait(lambda: world.landed() == len(world.attempted), 60, "all landed without it")
    late.signal(signal.SIGCONT)
    assert late.stop() == 0, "the processor that was late did not stop cleanly"
