"""What the ledger costs an image, beside plain Celery's tasks that do nothing, on servers of their own, in turns."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import redis
from celery import Celery

from benchmarks import roundtrips
from benchmarks.product import wait_until
from benchmarks.table import Row, row
from job_system.celery_config import configuration
from job_system.publish import publish_records
from job_system.queues import IMAGES
from ledger import Lease, Ledger
from records import ImageRecord, image_id
from settings import Jobs, Settings
from stack import valkey
from stack.launch import Launch, started

COMMAND = "python -m benchmarks ledger"
#: Seconds between two looks at the queue; each look is two commands.
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What one image, or one task, took."""

    wall_ms: float
    client_ms: float
    server_ms: float
    commands: float
    round_trips: float


WORDS = {
    "wall_ms": "ms",
    "client_ms": "CPU-ms of the process",
    "server_ms": "CPU-ms of Valkey",
    "commands": "commands at Valkey",
    "round_trips": "round trips",
}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A Valkey of one kind of worker."""

    pid: int
    client: redis.Redis
    settings: Settings

    def commands(self) -> int:
        """Commands so far, this one's left out."""
        return int(self.client.info("stats")["total_commands_processed"])


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A Valkey as the embedded stack starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(jobs=Jobs(redis_port=port, broker_url=f"redis://127.0.0.1:{port}/0"))
    launch = valkey.launch(settings, valkey.install(folder, print), folder / "valkey")
    with started(launch, folder / "valkey.log") as process, redis.Redis(port=port, decode_responses=True) as client:
        valkey.wait_ready(settings, 10)
        yield Server(process.pid, client, settings)


class Worker:
    """A worker process with a server of its own. ``extra`` goes into its environment."""

    def __init__(self, app: str, folder: Path, cleanup: ExitStack, **extra: str) -> None:
        self.server = cleanup.enter_context(server(folder))
        settings = self.server.settings
        self.ledger = cleanup.enter_context(Ledger(settings.jobs))
        self._app = Celery(app, set_as_current=False)
        self._app.conf.update(configuration(settings))
        cleanup.callback(self._app.close)
        counted = folder / "round_trips"
        self._counter = roundtrips.Counter(counted)
        environment = {
            "WEAVLOADER_DATA_DIR": str(folder / "data"),
            "CELERY_BROKER_URL": settings.jobs.broker_url,
            "TRITON_HOST": "127.0.0.1",
            "WEAVIATE_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            roundtrips.VARIABLE: str(counted),
            **extra,
        }
        command = (sys.executable, "-m", "celery", "-A", app, "-q", "worker", f"--queues={IMAGES}", "--without-mingle")
        worker = Launch((*command, "--without-gossip", "--concurrency=64"), environment)
        self.pid = cleanup.enter_context(started(worker, folder / "worker.log")).pid

    def publish(self, records: Sequence[ImageRecord]) -> None:
        """One message an image."""
        publish_records(self._app, records)

    def drain(self, records: Sequence[ImageRecord]) -> Cost:
        """What each of these images takes from its message to its acknowledgement."""
        looks = 0

        def done() -> bool:
            nonlocal looks
            looks += 1
            time.sleep(LOOK_SECONDS)
            return not (self.server.client.llen(IMAGES) or self.server.client.hlen("unacked"))

        before = self._figures()
        self.publish(records)
        wait_until(done, 600)
        wait_until(done)  # not in the moment between the queue and the unacknowledged
        took = [after - at for at, after in zip(before, self._figures(), strict=True)]
        took[0] -= LOOK_SECONDS
        took[3] -= 2 * looks
        return _each(took, len(records))

    def _figures(self) -> tuple[float, ...]:
        return (
            time.perf_counter(),
            cpu_seconds(self.pid),
            cpu_seconds(self.server.pid),
            self.server.commands(),
            self._counter.value,
        )


def _each(took: Sequence[float], count: int) -> Cost:
    wall, client, busy, commands, trips = (value / count for value in took)
    return Cost(1000 * wall, 1000 * client, 1000 * busy, commands, trips)


def alone(at: Server, counter: roundtrips.Counter, records: Sequence[ImageRecord]) -> Cost:
    """What the ledger takes by itself: an image is recorded (500 in one call), leased and landed, one after another."""

    def figures() -> tuple[float, ...]:
        return time.perf_counter(), time.process_time(), cpu_seconds(at.pid), at.commands(), counter.value

    with Ledger(at.settings.jobs) as ledger:
        ledger.ping()
        before = figures()
        ledger.record(records)
        for record in records:
            lease = ledger.lease(record)
            if not (isinstance(lease, Lease) and ledger.land(lease)):
                raise RuntimeError(f"the ledger did not let {record.id} land")
        took = [after - value for value, after in zip(before, figures(), strict=True)]
    return _each(took, len(records))


def images(name: str, count: int) -> list[ImageRecord]:
    """Records as long as SAGE's are, new for each name."""
    ns = 1_700_000_000_000_000_000
    url = "https://storage.sagecontinuum.org/api/v1/data/imagesampler-bottom-2726/sage-imagesampler-0.3.7/000048b02d15bdc2"
    return [
        ImageRecord(
            id=image_id("benchmark", f"{name} {number}"),
            source="benchmark",
            url=f"{url}/{ns + number}-{name}.jpg",
            timestamp="2023-11-14T22:13:20.000000000Z",
            captured_ns=ns + number,
            filename="sample.jpg",
            vsn="W02F",
            node="000048b02d15bdc2",
            camera="bottom_camera",
            host="000048b02d15bdc2.ws-nxcore",
            job="imagesampler-bottom-2726",
            plugin="registry.sagecontinuum.org/theone/imagesampler:0.3.7",
            task="imagesampler-bottom",
            zone="core",
        )
        for number in range(count)
    ]


def run(work: Path, rounds: int, count: int) -> list[Row]:
    """Rounds in turn: plain tasks, the product's with ports that do nothing, and the ledger's calls alone."""
    plain, product, ledger = [], [], []
    with ExitStack() as cleanup:
        (work / "plain").mkdir(parents=True)
        (work / "product").mkdir()
        counter = roundtrips.count(work / "round_trips")
        workers = (
            Worker("benchmarks.plain_tasks", work / "plain", cleanup),
            Worker("benchmarks.ledger_tasks", work / "product", cleanup),
        )
        idle = cleanup.enter_context(server(work))
        for number in range(rounds + 1):  # the first warms up
            of_plain = workers[0].drain(images(f"plain{number}", count))
            new = images(f"product{number}", count)
            workers[1].ledger.record(new)
            of_product = workers[1].drain(new)
            if workers[1].ledger.audit().landed != count * (number + 1):
                raise RuntimeError(f"not all images landed: {workers[1].ledger.audit()}")
            of_ledger = alone(idle, counter, images(f"alone{number}", count))
            if number:
                plain.append(of_plain)
                product.append(of_product)
                ledger.append(of_ledger)
    beyond = [
        Cost(*(mine - theirs for mine, theirs in zip(astuple(one), astuple(other), strict=True)))
        for one, other in zip(product, plain, strict=True)
    ]
    return [
        *_rows("plain Celery, a task that does nothing", plain),
        *_rows("the product, ports that do nothing", product),
        *_rows("the product beyond plain Celery", beyond),
        *_rows("the ledger's calls alone", ledger),
    ]


def _rows(name: str, costs: Sequence[Cost]) -> Iterator[Row]:
    for field in fields(Cost):
        values = [getattr(cost, field.name) for cost in costs]
        yield row(f"{name}: {WORDS[field.name]}", values, COMMAND)
