"""``evaluate``: how good the search is on a dataset."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands.progress import Steps, busy
from commands.shown import plain, print_json, say
from errors import UsageError, WeavloaderError
from searching import MAX_LIMIT, Finder
from settings import Settings

if TYPE_CHECKING:
    from evaluation.dataset import Dataset

ALPHAS = "0,0.2,0.4,0.6,0.8,1"
#: Queries that are asked at a time.
AT_A_TIME = 4
#: Ids that the store is asked for at a time.
PORTION = 500


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(path_type=Path), help="The queries' file [DATASET/queries.jsonl or .csv].")
@click.option("--category", help="The table's column to part the results by [category, supercategory or iconic_group].")
@click.option(
    "--alphas", default=ALPHAS, show_default=True, help="Vector's shares to try: 0 keywords alone, 1 vectors."
)
@click.option("--k", type=click.IntRange(1, MAX_LIMIT), default=10, show_default=True, help="Results that count.")
@click.option("--reranker", help="Try the best hybrid alpha with this reranker too, for example light_reranker.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the measures by alpha into this PNG.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the whole report into this JSON file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    dataset: Path,
    queries: Path | None,
    category: str | None,
    alphas: str,
    k: int,
    reranker: str | None,
    plot: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure how good the search is: NDCG, precision, recall, success and MRR of a folder's queries, by alpha.

    The folder's pictures have to be in the store: `add DATASET --until-landed` brings them there.
    """
    from evaluation.dataset import read
    from evaluation.report import Report

    shares = _shares(alphas)
    loaded = configuration.require(configuration.load().settings, "weaviate", "triton")
    with busy("reading the dataset"):
        read_in = read(dataset, queries, category)
    rankings, foreign = asyncio.run(_found(_with_reranker(loaded, ""), read_in, shares, k))
    with busy("measuring"):
        report = Report.of(read_in, rankings, k, foreign)
    if reranker:
        again, _ = asyncio.run(_found(_with_reranker(loaded, reranker), read_in, [report.best], k))
        report = report.with_reranker(again[report.best])
    found = report.to_json()
    try:
        if plot is not None:
            report.plot(plot)
        if out is not None:
            out.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise WeavloaderError(f"{error.filename} cannot be written ({(error.strerror or 'error').lower()})") from None
    if as_json:
        print_json(found)
        return
    for line in report.lines():
        say(plain(line))
    if foreign:
        say(f"left out: {foreign} results that are not of the dataset")


def _with_reranker(loaded: Settings, name: str) -> Settings:
    return loaded.model_copy(update={"triton": loaded.triton.model_copy(update={"reranker": name})})


async def _found(
    loaded: Settings, dataset: Dataset, alphas: Sequence[float], k: int
) -> tuple[dict[float, dict[str, list[str]]], int]:
    """What is found with each alpha, the dataset's own pictures alone, and how many others were found with them.

    Raises ``UsageError`` where pictures of the dataset are not in the store.
    """
    async with aclosing(Finder(loaded)) as finder:
        ids = list(dataset.pictures)
        there: set[str] = set()
        for start in range(0, len(ids), PORTION):
            there |= {hit.result.id for hit in await finder.images(ids[start : start + PORTION])}
        if missing := [name for own, name in dataset.pictures.items() if own not in there]:
            raise UsageError(
                f"{len(missing)} of the dataset's {len(ids)} pictures are not in the store ({missing[0]}, …): bring"
                " them there with `python main.py add DATASET --until-landed`"
            )
        # Other pictures take places among the results: as many as there may be are asked for.
        limit = min(MAX_LIMIT, max(k, 1) * 20)
        rankings: dict[float, dict[str, list[str]]] = {alpha: {} for alpha in alphas}
        work = [(alpha, query) for alpha in alphas for query in dataset.queries]
        foreign, turns = 0, asyncio.Semaphore(AT_A_TIME)
        with Steps() as steps:
            done = 0

            async def ask(number: int) -> None:
                nonlocal foreign, done
                alpha, query = work[number]
                async with turns:
                    hits = await finder.search(query.text, alpha=alpha, limit=limit)
                own = [hit.result.id for hit in hits if hit.result.id in dataset.pictures]
                foreign += len(hits) - len(own)
                rankings[alpha][query.id] = own
                done += 1
                steps("queries", done, len(work))

            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(len(work)):
                        group.create_task(ask(number))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return rankings, foreign


def _shares(text: str) -> list[float]:
    """The numbers of a list like 0,0.5,1, each once. Raises ``UsageError``."""
    try:
        found = sorted({float(word) for word in text.split(",")})
    except ValueError:
        found = []
    if not found or any(not 0 <= share <= 1 for share in found):
        raise UsageError(f"--alphas {text!r}: give numbers from 0 to 1, for example {ALPHAS}")
    return found


COMMANDS = (evaluate,)
