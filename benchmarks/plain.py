"""Whether the plain way works, on servers of its own: ``python -m benchmarks plain``. The speed measurements compare it
with the product; here it is alone with Triton, Weaviate, Valkey and a replay server, so that its own row is no ratio.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import requests

from benchmarks.ledger import server
from benchmarks.pictures import write_round
from benchmarks.plain_way import COMMAND, MODELS, Addresses, PlainWay, start
from benchmarks.product import wait_until
from benchmarks.servers import running_triton, running_weaviate
from benchmarks.table import Row, row
from commands.replaying import LiveReplay
from records import ImageRecord, SourceAddress
from sources.replay import ReplayNode, load_folder
from sources.sage import parse_line

#: Images a second of a worker that started long ago, so that neither fork nor clients' first connections count.
_WARM = 6


def listed(source: SourceAddress) -> list[ImageRecord]:
    """All uploads that a source lists."""
    query = {"start": "-1h", "filter": {"task": "imagesampler-.*"}}
    answer = requests.post(source.query_url, json=query, timeout=30)
    answer.raise_for_status()
    parsed = (parse_line(line, source) for line in answer.content.splitlines())
    return [line.result for line in parsed if isinstance(line.result, ImageRecord)]


def drained(plain: PlainWay, records: list[ImageRecord]) -> float:
    """Images per second."""
    before = plain.landed()
    began = time.perf_counter()
    plain.publish(records)
    wait_until(lambda: plain.landed() - before >= len(records), 600)
    return len(records) / (time.perf_counter() - began)


def run(work: Path, rounds: int, count: int = 40) -> list[Row]:
    """Rounds of pictures that are 640 wide, through models that take no time."""
    rates = []
    with ExitStack() as cleanup:
        at = cleanup.enter_context(server(work / "valkey"))
        store = cleanup.enter_context(running_weaviate(work / "weaviate")).section
        models = cleanup.enter_context(running_triton(work, MODELS)).section
        write_round(work / "pictures", 1, _WARM + rounds * count)
        node = ReplayNode("B001", project="SAGE", latitude=41.88, longitude=-87.62, gps=True)
        pictures = load_folder(work / "pictures", node=node)
        replay = cleanup.enter_context(LiveReplay("plain", pictures, 0.0, None))
        source = replay.address
        addresses = Addresses(
            broker_url=at.settings.jobs.broker_url,
            triton=f"{models.host}:{models.port}",
            weaviate_host=store.host,
            weaviate_port=store.http_port,
            weaviate_grpc_port=store.grpc_port,
            weaviate_key=store.api_key,
            query_url=source.query_url,
            manifest_url=source.manifest_url,
            user=source.user,
            password=source.password,
        )
        plain = cleanup.enter_context(start(addresses, work))
        records = listed(source)
        drained(plain, records[:_WARM])
        for number in range(rounds):
            first = _WARM + number * count
            rates.append(drained(plain, records[first : first + count]))
        if (stored := plain.stored()) != len(records):
            raise RuntimeError(f"{stored} of {len(records)} images are in the collection; see {plain.log}")
    return [row("the plain way alone, 640 wide, images/s", rates, COMMAND)]


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    return run(work, 1, 6)
