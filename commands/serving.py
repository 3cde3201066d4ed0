"""``models``: what the model server has, whether it speaks the contract, and how quick it is (see also ``weights``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands.calibrating import gathered
from commands.progress import Steps, busy
from commands.shown import plain, print_json, say, status_text
from commands.weights import fetch, use
from errors import EXIT_FAILED, EXIT_OK, UsageError
from records import PartState, Picture
from settings import Settings

if TYPE_CHECKING:
    from inference.choice import AnyCaptioner, AnyEmbedder
    from inference.connection import TritonConnection
    from inference.served import Ask, ServedModel, Speed, Warmth

#: What a model is configured as; the pipeline asks the first two of every picture.
CAPTIONER, EMBEDDER, RERANKER = "captioner", "embedder", "reranker"
ROLES = (CAPTIONER, EMBEDDER)


class Opened:
    """The connection to the model server and the two configured models."""

    def __init__(self, connection: TritonConnection, captioner: AnyCaptioner, embedder: AnyEmbedder) -> None:
        self.connection, self.captioner, self.embedder = connection, captioner, embedder

    def asks(self, only: str | None) -> list[tuple[str, str, Ask]]:
        """Role, name and the pipeline's own call of each model, or of the one that is named."""
        every: list[tuple[str, str, Ask]] = [
            (CAPTIONER, self.captioner.identity.name, self.captioner.caption),
            (EMBEDDER, self.embedder.identity.name, self.embedder.embed_image),
        ]
        return [one for one in every if only in (None, one[0])]


@asynccontextmanager
async def opened(loaded: Settings) -> AsyncIterator[Opened]:
    """Both models, behind a server that lives. Raises ``PartUnavailable`` where it does not."""
    from inference import TritonConnection, open_captioner, open_embedder

    connection = TritonConnection(loaded.triton)
    try:
        captioner, embedder = open_captioner(loaded.triton, connection), open_embedder(loaded.triton, connection)
        await connection.live()
        yield Opened(connection, captioner, embedder)
    finally:
        await connection.close()


def _settings() -> Settings:
    return configuration.require(configuration.load().settings, "triton")


@click.group()
def models() -> None:
    """The models on Triton: what is there, whether it fits, how quick it is; and better ones from a model hub."""


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_models(as_json: bool) -> None:
    """List what the model server has."""
    loaded = _settings()

    async def ask() -> tuple[list[ServedModel], str]:
        from inference.served import served

        async with opened(loaded) as at:
            return await served(at.connection), at.connection.address

    with busy("asking the model server"):
        found, address = asyncio.run(ask())
    if as_json:
        print_json({"address": address, "models": [_listed(model, loaded) for model in found]})
        return
    width = max((len(model.name) for model in found), default=0)
    for model in found:
        batches = f"batches of up to {model.largest_batch}" if model.largest_batch else "no batches"
        asked = f"{model.requests} requests, {model.batch:.1f} a batch" if model.executions else "not asked yet"
        told = f"{batches}, {asked}" if model.state == "READY" else model.reason or "not loaded"
        used = "".join(f"  [{role}]" for role in _used_as(model.name, loaded))
        say(plain(f"{model.state:<11} {model.name:<{width}} {model.version:>3}  {told}{used}"))
    say(f"{len(found)} models at {address}")


def _used_as(name: str, loaded: Settings) -> list[str]:
    section = loaded.triton
    named = {CAPTIONER: section.captioner, EMBEDDER: section.embedder, RERANKER: section.reranker}
    return [role for role, model in named.items() if model == name]


def _listed(model: ServedModel, loaded: Settings) -> dict[str, object]:
    return {**asdict(model), "used_as": _used_as(model.name, loaded)}


@models.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(as_json: bool) -> int:
    """Hold the configured models against their contract, and have them answer. Exit code 1 when one does not."""
    loaded = _settings()

    async def ask() -> dict[str, PartState]:
        from inference import Reranker, canary, contract_state

        async with opened(loaded) as at:
            states = {
                CAPTIONER: await contract_state(at.connection, at.captioner),
                EMBEDDER: await contract_state(at.connection, at.embedder),
            }
            if loaded.triton.reranker:
                reranker = Reranker(loaded.triton.reranker, at.connection)
                states[RERANKER] = await contract_state(at.connection, reranker)
            if all(state.ok for state in states.values()):
                states["answers"] = await canary(at.connection, at.captioner, at.embedder, loaded.triton.timeout)
            return states

    with busy("asking the models"):
        states = asyncio.run(ask())
    ok = all(state.ok for state in states.values())
    if as_json:
        print_json({"ok": ok, "checks": {name: asdict(state) for name, state in states.items()}})
    else:
        say(status_text(states))
    return EXIT_OK if ok else EXIT_FAILED


@models.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def warm(as_json: bool) -> None:
    """Load the configured models and have them compute each batch size once, so that the first image need not wait."""
    loaded = _settings()
    pictures, _ = gathered(loaded, None)

    async def ask() -> dict[str, Warmth]:
        from inference.served import LEAST_TRIED, largest_batch
        from inference.served import warm as warmed

        found = {}
        async with opened(loaded) as at:
            for _, name, call in at.asks(None):
                await call(pictures[0])  # a model that is not loaded has no configuration yet
                most = await largest_batch(at.connection, name) or LEAST_TRIED
                found[name] = await warmed(call, pictures, most)
        return found

    with busy("warming the models"):
        found = asyncio.run(ask())
    if as_json:
        print_json(
            {"models": {name: {"first_seconds": one.first, "last_seconds": one.last} for name, one in found.items()}}
        )
        return
    for name, one in found.items():
        say(f"{name}: the first answer took {one.first:.2f} s, a full batch now {one.last:.2f} s")


@models.command()
@click.option("--only", type=click.Choice(ROLES), help="Only this one [both, one after the other].")
@click.option(
    "--at-a-time", "counts", help="Requests in hand, for example 1,8,32 [1, 2, 4, … to twice the largest batch]."
)
@click.option(
    "--seconds", type=click.FloatRange(0.2, 600), default=3.0, show_default=True, help="Length of each trial."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Pictures to use [the demo's, or made-up ones].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(only: str | None, counts: str | None, seconds: float, folder: Path | None, as_json: bool) -> None:
    """Measure each configured model: answers a second and latency by requests in hand, and the time of each batch."""
    loaded = _settings()
    wanted = _counts(counts)
    pictures, what = gathered(loaded, folder)
    found = asyncio.run(_benched(loaded, only, wanted, seconds, pictures))
    if as_json:
        print_json(
            {
                "pictures": what,
                "seconds": seconds,
                "models": {name: [asdict(one) for one in speeds] for name, speeds in found.items()},
            }
        )
        return
    for name, speeds in found.items():
        say(f"{name}: of {plain(what)}, {seconds:g} s each")
        say("at a time  answers/s  median ms  95% ms  batches (requests: ms)")
        for one in speeds:
            batches = ", ".join(f"{batch.size}: {batch.milliseconds:.1f}" for batch in one.batches) or "-"
            say(
                f"{one.at_a_time:>9}  {one.answers_per_second:>9.1f}  {one.p50_ms:>9.1f}  {one.p95_ms:>6.1f}  {batches}"
            )


async def _benched(
    loaded: Settings, only: str | None, counts: Sequence[int], seconds: float, pictures: Sequence[Picture]
) -> dict[str, list[Speed]]:
    from inference.served import LEAST_TRIED, largest_batch, sizes, speed

    found = {}
    async with opened(loaded) as at:
        with Steps() as steps:
            for _, name, call in at.asks(only):
                await call(pictures[0])  # a model that is not loaded has no configuration yet
                most = await largest_batch(at.connection, name)
                tried = counts or sizes(2 * most if most else LEAST_TRIED)
                found[name] = [
                    await speed(at.connection, name, call, pictures, count, seconds, steps) for count in tried
                ]
    return found


def _counts(text: str | None) -> list[int]:
    """The numbers of a list like 1,8,32. Raises ``UsageError``."""
    try:
        found = [int(word) for word in text.split(",")] if text else []
    except ValueError:
        found = [0]
    if any(not 1 <= count <= 4096 for count in found):
        raise UsageError(f"--at-a-time {text!r}: give whole numbers from 1 to 4096, for example 1,8,32")
    return found


models.add_command(fetch)
models.add_command(use)

COMMANDS = (models,)
