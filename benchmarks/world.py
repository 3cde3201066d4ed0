"""The world of the speed measurements: real servers, a model server that sleeps instead of thinking, a storage, and the
product's processors as their users start them.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.ledger import images
from benchmarks.product import environment
from inference import TritonConnection, calibration, open_captioner, open_embedder
from inference.images import prepare
from job_system.app import celery_app
from job_system.publish import publish_records
from job_system.queues import IMAGES
from ledger import Ledger
from records import ImageRecord, SourceAddress
from settings import PROJECT_ROOT, Settings, load, process_environment
from sources import pictures
from stack import triton, valkey, weaviate
from stack.launch import KEEPING_MEMORY, started

MODELS = PROJECT_ROOT / "benchmarks" / "triton_models"
SOURCE = "benchmark"
READY_SECONDS = 60
#: Seconds in which processors answer what they have done; all of them are waited for.
ANSWER_SECONDS = 2.0
#: Images between these shares of a run are counted: neither the start nor the tail.
FIRST, LAST = 0.15, 0.9
SLEEPERS = ("sleeper_captioner", "sleeper_embedder")


def steady_rate(looks: Sequence[tuple[float, int]], count: int) -> float:
    """Images per second between two shares of a run; ``looks`` are times from its begin on, and how many had landed."""
    first = next(look for look in looks if look[1] >= FIRST * count)
    last = next(look for look in looks if look[1] >= LAST * count)
    if first == last:  # so few that they landed together
        first = looks[0]
    return (last[1] - first[1]) / (last[0] - first[0])


@dataclass(frozen=True)
class Size:
    """Pictures of one size. ``kilobytes`` is what cameras of the field make of it."""

    name: str
    width: int
    height: int
    kilobytes: int


FULL_HD = Size("1080p", 1920, 1080, 239)
VGA = Size("640x480", 640, 480, 59)


def write_pictures(folder: Path, size: Size, count: int = 200) -> None:
    """JPEGs of a street, each another frame, as large in bytes as a camera's; made once."""
    if folder.exists():
        return
    source = pictures.install(load().settings.paths.cache, print)
    draft = folder.with_name(f".{folder.name}")
    draft.mkdir(parents=True)
    noise = np.random.default_rng(1).normal(0, 2, (size.height, size.width, 1))
    with av.open(str(source / pictures.VIDEO)) as container:
        frames = [frame.to_image() for frame in itertools.islice(container.decode(video=0), count)]

    def grown(number: int) -> Image.Image:
        image = frames[number].resize((size.width, size.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(image) + np.roll(noise, number * 7, 1)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    samples = [grown(number) for number in range(0, len(frames), max(1, len(frames) // 10))]
    quality = next((one for one in range(40, 97) if _kilobytes(samples, one) >= size.kilobytes), 97)
    for number in range(len(frames)):
        grown(number).save(draft / f"{number:04d}.jpg", "JPEG", quality=quality)
    draft.rename(folder)


def _kilobytes(images: Sequence[Image.Image], quality: int) -> float:
    """What the images have on average."""
    total = 0
    for image in images:
        output = io.BytesIO()
        image.save(output, "JPEG", quality=quality)
        total += output.tell()
    return total / 1000 / len(images)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its threads and its children, living or waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = sum(int(value) for value in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


@dataclass(frozen=True)
class Run:
    """What was seen of one run: images a second in its steady part, and CPU-ms an image of each process over it all."""

    rate: float
    cpu_ms: Mapping[str, float]


class World:
    """Servers for one measurement. Made with a folder; ``triton`` and ``processors`` come and go inside it."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._held = held
        self._pids: dict[str, int] = {}
        self._runs = itertools.count()
        self._app = celery_app
        ports = environment(folder / "data")
        ports["TRITON_HOST"] = ports["WEAVIATE_HOST"] = "127.0.0.1"
        ports["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{ports['WEAVLOADER_REDIS_PORT']}/0"
        ports |= {
            "WEAVLOADER_MODEL_REPOSITORY": str(MODELS),
            "WEAVLOADER_CAPTIONER": "sleeper_captioner",
            "WEAVLOADER_EMBEDDER": "sleeper_embedder",
            "WEAVLOADER_TEXT_SHARE": "0",
            "WEAVLOADER_TASK_EVENTS": "false",
            "WEAVIATE_API_KEY": uuid.uuid4().hex,
            "WEAVLOADER_COLLECTION": "Speed",
        }
        self._ports = ports
        cache = load().settings.paths.cache
        settings = self.settings
        how = valkey.launch(settings, valkey.install(cache, print), folder / "valkey")
        self._pids["valkey"] = held.enter_context(started(how, folder / "valkey.log")).pid
        valkey.wait_ready(settings, READY_SECONDS)
        how = weaviate.launch(settings, weaviate.install(cache, print, binary=""), folder / "weaviate")
        self._pids["weaviate"] = held.enter_context(started(how, folder / "weaviate.log")).pid
        weaviate.wait_ready(settings, READY_SECONDS)
        self._installed = triton.install(cache, print)
        self.ledger = held.enter_context(Ledger(settings.jobs))
        self._storage = ""
        self._app.conf.update(broker_url=settings.jobs.broker_url)
        for name in ("broker_read_url", "broker_write_url"):
            self._app.conf[name] = settings.jobs.broker_url

    @property
    def settings(self) -> Settings:
        """What clients of the servers are told."""
        return load(self._ports, self.folder / "none.toml").settings

    @property
    def environment(self) -> dict[str, str]:
        """What the product's processes are started with."""
        return process_environment({**self._ports, **KEEPING_MEMORY})

    @contextmanager
    def models(self, base_ms: float, per_item_ms: float, names: Sequence[str] = SLEEPERS) -> Iterator[None]:
        """A Triton whose models take ``base_ms + n * per_item_ms`` for a batch of n up to 8."""
        settings = self.settings
        how = triton.launch(settings, self._installed, self.folder / "triton", names)
        times = {
            "WEAVLOADER_SLEEPER_BASE_MS": str(base_ms),
            "WEAVLOADER_SLEEPER_PER_ITEM_MS": str(per_item_ms),
        }
        how = replace(how, environment={**how.environment, **times})
        with started(how, self.folder / "triton.log") as process:
            triton.wait_ready(settings, READY_SECONDS, names)
            self._pids["triton"] = process.pid
            yield
        del self._pids["triton"]

    @contextmanager
    def storage(self, folder: Path, delay_ms: float = 0) -> Iterator[None]:
        """A source that serves the folder's pictures."""
        with self.serving("storage", "benchmarks.picture_server", str(folder), str(delay_ms)) as port:
            self._storage = f"http://127.0.0.1:{port}"
            yield

    @contextmanager
    def slow_broker(self, delay_ms: float) -> Iterator[str]:
        """The broker's URL over a way on which every answer is so much later."""
        port = self.settings.jobs.redis_port
        with self.serving("way", "benchmarks.slow_way", str(port), str(delay_ms)) as way:
            yield f"redis://127.0.0.1:{way}/0"

    @contextmanager
    def serving(self, name: str, module: str, *arguments: str) -> Iterator[str]:
        """A server of the measurements that prints its port and ends with its standard input."""
        with subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            self._pids[name] = process.pid
            yield process.stdout.readline().strip()
            process.stdin.close()
        del self._pids[name]

    @property
    def address(self) -> SourceAddress:
        """The storage as a source of the product."""
        return SourceAddress(
            name=SOURCE,
            query_url=f"{self._storage}/api/v1/query",
            storage_url=self._storage,
            manifest_url=f"{self._storage}/manifests/",
            local=True,
        )

    @contextmanager
    def processors(
        self, count: int, command: Sequence[str] = ("main.py", "processor"), **changed: str
    ) -> Iterator[None]:
        """The product's processors, ready for work: what Python is given, and what differs in their environment. They
        may stand beside others.
        """
        first = len([name for name in self._pids if name.startswith("processor")])
        numbers = range(first, first + count)
        with ExitStack() as held:
            for number in numbers:
                variables = {**self.environment, **changed}
                log = held.enter_context((self.folder / f"processor{number}.log").open("ab"))
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=PROJECT_ROOT,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                held.callback(_end, process)
                self._pids[f"processor{number}"] = process.pid
            _wait(lambda: self._living_processors() >= numbers.stop)
            yield
        for number in numbers:
            del self._pids[f"processor{number}"]
        _wait(lambda: self._living_processors() <= first)

    def _living_processors(self) -> int:
        return len([name for name in self.ledger.roles() if name.startswith("processor")])

    def tasks_by_processor(self) -> dict[str, int]:
        """How many tasks each processor has begun, by the name that its figures have."""
        told = self._app.control.inspect(timeout=ANSWER_SECONDS).stats() or {}
        found = {}
        for node, stats in told.items():
            role, _, _ = node.partition("@")  # processor, processor2, …, in the order in which they were started
            number = int(role.removeprefix("processor") or 1) - 1
            found[f"processor{number}"] = sum(stats["total"].values())
        return found

    def records(self, count: int, equal_every: int = 0) -> list[ImageRecord]:
        """New images of the storage; where it is said, one of so many shows always the same."""
        name = f"run{next(self._runs)}-{uuid.uuid4().hex[:6]}"
        shown = (0 if equal_every and number % equal_every == 0 else number for number in range(count))
        return [
            replace(record, url=f"{self._storage}/pictures/{picture}-{name}-{number}.jpg")
            for number, (record, picture) in enumerate(zip(images(name, count), shown, strict=True))
        ]

    def queued(self) -> int:
        """Messages in the queue, those of images that have ended too."""
        return self.ledger.snapshot().queues[IMAGES]

    def queue(self, records: Sequence[ImageRecord]) -> None:
        """Record and publish, as the monitor does; the source is mentioned anew."""
        self.ledger.sources.register(self.address, 3600)
        publish_records(self._app, self.ledger.record(records))

    def drain(self, count: int) -> Run:
        """Queue new images and see them land."""
        return self.seen(self.records(count))

    def seen(self, records: Sequence[ImageRecord]) -> Run:
        """Queue the images, and see them land."""
        return self.landing(len(records), lambda: self.queue(records))

    def landing(self, count: int, begin: Callable[[], object]) -> Run:
        """Begin something that makes so many images land, and see them land."""
        before = self.ledger.audit()
        costs = self.cpu()
        begin()
        looks: list[tuple[float, int]] = [(time.perf_counter(), 0)]

        def done() -> bool:
            audit = self.ledger.audit()
            if audit.dead > before.dead:
                raise RuntimeError(f"images died: {audit}")
            looks.append((time.perf_counter(), audit.landed - before.landed))
            return looks[-1][1] >= count

        _wait(done, 1200, every=0.1)
        spent = {name: 1000 * (value - costs[name]) / count for name, value in self.cpu().items()}
        return Run(steady_rate(looks, count), spent)

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def pid(self, name: str) -> int:
        """The process of a server or processor."""
        return self._pids[name]

    def ceiling(self, folder: Path, seconds: float = 5.0, in_flight: int = 64) -> float:
        """Images per second of the pipeline's own calls at the model server, with nothing beside them."""
        encoded = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:64]]
        return asyncio.run(self._ceiling(encoded, seconds, in_flight))

    async def _ceiling(self, encoded: Sequence[bytes], seconds: float, in_flight: int) -> float:
        settings = self.settings
        ready = [prepare(data, settings.fetch) for data in encoded]
        connection = TritonConnection(settings.triton)
        captioner, embedder = open_captioner(settings.triton, connection), open_embedder(settings.triton, connection)
        try:
            found = await calibration.ceiling(
                captioner, embedder, ready, in_flight, seconds, text=calibration.embeds_text(settings.triton)
            )
        finally:
            await connection.close()
        return found.images_per_second


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _wait(true: object, limit: float = 120, every: float = 0.05) -> None:
    deadline = time.monotonic() + limit
    while not true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError("what the measurement waits for did not come")
        time.sleep(every)
