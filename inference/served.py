"""What the model server has, and how quick each model is: for people who run it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.border import ModelAbsent
from inference.calibration import endless
from inference.choice import AnyCaptioner, AnyEmbedder
from inference.connection import TritonConnection
from records import ModelIdentity, Picture

#: Asks a model for one picture, as the pipeline does.
Ask = Callable[[Picture], Awaitable[object]]
#: Requests at a time that are tried where a model's batches have no limit of their own.
LEAST_TRIED = 8

Report = Callable[[str, int, int | None], None]
"""Called with what is being done, and how much of it of how much is done."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of a model in the server's repository. ``largest_batch`` is 0 where the server does not batch for it
    or has not loaded it; ``requests`` and ``executions`` are counted since it was loaded.
    """

    name: str
    version: str
    state: str
    reason: str
    largest_batch: int = 0
    requests: int = 0
    executions: int = 0

    @property
    def batch(self) -> float:
        """Requests of an execution, on the average; 0 before the first."""
        return self.requests / self.executions if self.executions else 0.0


@dataclass(frozen=True, slots=True)
class BatchTime:
    """Batches of one size that a model computed, and the milliseconds that one took."""

    size: int
    executions: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What ``at_a_time`` requests in hand got: answers a second, the milliseconds that one took (median and 95th
    percentile), and the batches that the server made of them, where it tells.
    """

    at_a_time: int
    answers_per_second: float
    answers: int
    p50_ms: float
    p95_ms: float
    batches: tuple[BatchTime, ...]


@dataclass(frozen=True, slots=True)
class Warmth:
    """Seconds of the first answer, and of the last round's slowest."""

    first: float
    last: float


async def served(connection: TritonConnection) -> list[ServedModel]:
    """All that is in the server's repository, by name and version. Raises ``PartUnavailable``."""
    index = (await connection.told("get_model_repository_index")).models
    found = []
    for entry in sorted(index, key=lambda one: (one.name, one.version)):
        state = entry.state or "UNLOADED"
        model = ServedModel(entry.name, entry.version, state, entry.reason)
        if state == "READY":
            config = (await connection.told("get_model_config", entry.name, entry.version)).config
            stats = (await connection.told("get_inference_statistics", entry.name, entry.version)).model_stats[0]
            model = ServedModel(
                entry.name,
                entry.version,
                state,
                entry.reason,
                config.max_batch_size,
                stats.inference_count,
                stats.execution_count,
            )
        found.append(model)
    return found


async def names(connection: TritonConnection) -> set[str]:
    """The models in the server's repository, loaded or not. Raises ``PartUnavailable``."""
    return {one.name for one in (await connection.told("get_model_repository_index")).models}


async def largest_batch(connection: TritonConnection, model: str) -> int:
    """Requests that the server computes together at most; 0 where it does not batch. Raises ``PartUnavailable``."""
    return int((await connection.told("get_model_config", model)).config.max_batch_size)


async def warm(ask: Ask, pictures: Sequence[Picture], most: int) -> Warmth:
    """Ask until every batch up to ``most`` has been computed once, and say how long the first and the last took.

    A model that is not loaded is loaded by the first request. Raises what the adapter raises.
    """
    each = endless(pictures)
    first = await _seconds(ask, each, 1)
    last = first
    for count in (*sizes(most), most):
        last = await _seconds(ask, each, count)
    return Warmth(first, last)


async def _seconds(ask: Ask, pictures: Iterator[Picture], count: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(ask(next(pictures)) for _ in range(count)))
    return time.perf_counter() - began


def sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, … up to ``most``, which is always among them."""
    powers = itertools.takewhile(lambda size: size < most, (2**power for power in itertools.count()))
    return (*powers, max(most, 1))


async def speed(
    connection: TritonConnection,
    model: str,
    ask: Ask,
    pictures: Sequence[Picture],
    at_a_time: int,
    seconds: float,
    report: Report = lambda _step, _done, _total: None,
) -> Speed:
    """How quick a model is with so many requests in hand. The first answer of each is not counted.

    Other work on the same server is measured with it. Raises what the adapter raises and ``PartUnavailable``.
    """
    each, took = endless(pictures), list[float]()
    await _seconds(ask, each, at_a_time)
    before = await _batches(connection, model)
    began = time.perf_counter()

    async def lane() -> None:
        while True:
            start = time.perf_counter()
            await ask(next(each))
            end = time.perf_counter()
            took.append(end - start)
            report(f"seconds of {model}, {at_a_time} at a time", min(int(end - began), int(seconds)), int(seconds))
            if end - began >= seconds:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(lane())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    length = time.perf_counter() - began
    after = await _batches(connection, model)
    p50, p95 = np.percentile(took, (50, 95)) * 1000
    return Speed(at_a_time, len(took) / length, len(took), float(p50), float(p95), tuple(_between(before, after)))


async def _batches(connection: TritonConnection, model: str) -> dict[int, tuple[int, int]]:
    """Executions and nanoseconds of each batch size so far, all versions together."""
    found: dict[int, tuple[int, int]] = {}
    for version in (await connection.told("get_inference_statistics", model)).model_stats:
        for one in version.batch_stats:
            count, spent = found.get(one.batch_size, (0, 0))
            found[one.batch_size] = (count + one.compute_infer.count, spent + one.compute_infer.ns)
    return found


def _between(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]) -> Iterator[BatchTime]:
    for size, (count, spent) in sorted(after.items()):
        old_count, old_spent = before.get(size, (0, 0))
        if count > old_count:
            yield BatchTime(size, count - old_count, (spent - old_spent) / (count - old_count) / 1e6)


async def answering(connection: TritonConnection, model: AnyCaptioner | AnyEmbedder) -> ModelIdentity:
    """Who answers when the model is asked now, with the version that the server takes; what is not loaded is loaded.

    Raises ``ModelAbsent`` where the server has no such model, ``WrongModel`` where it does not speak the contract, and
    what the adapter raises.
    """
    identity = model.identity
    index = (await connection.told("get_model_repository_index")).models
    if identity.name not in {one.name for one in index}:
        there = ", ".join(sorted({one.name for one in index})) or "none"
        raise ModelAbsent(
            identity.name, f"Triton at {connection.address} has no model {identity.name!r}: it has {there}"
        )
    if not any(one.name == identity.name and one.state == "READY" for one in index):
        await connection.load(identity.name)
    await connection.check(identity.name, model.contract)
    versions = (await connection.told("get_model_metadata", identity.name)).versions
    return replace(identity, version=max(versions, key=lambda version: (len(version), version), default=""))
