"""The whole way on real parts: a replayed stream through plain Celery, Triton and Weaviate to found objects."""

from __future__ import annotations

import asyncio
from pathlib import Path

from client import WeaviateStore
from ledger import Ledger
from settings import Triton, Weaviate
from sources.replay_pictures import load_folder
from tests.fixtures.redis import wait_until
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands


def parts(triton: Triton, weaviate: Weaviate) -> dict[str, str]:
    return {
        "TRITON_HOST": triton.host,
        "TRITON_PORT": str(triton.port),
        "WEAVIATE_HOST": weaviate.host,
        "WEAVIATE_PORT": str(weaviate.http_port),
        "WEAVIATE_GRPC_PORT": str(weaviate.grpc_port),
        "WEAVIATE_API_KEY": weaviate.api_key,
        "WEAVLOADER_COLLECTION": weaviate.collection,
    }


async def objects(section: Weaviate) -> int:
    store = await WeaviateStore.open(section)
    try:
        return await store.count()
    finally:
        await store.close()


def test_a_replayed_folder_lands_through_plain_celery(
    photos: Path,
    light_triton: Triton,
    collection: Weaviate,
    commands: Commands,
    ledger: Ledger,
) -> None:
    pictures = load_folder(photos)[:12]
    with LocalSage(pictures, interval=0.01) as sage:
        ledger.sources.register(sage.local, 120)
        environment = parts(light_triton, collection)
        worker = commands.celery("job_system", "-q", "worker", **environment)
        scheduler, stream = commands.role("run_scheduler"), commands.role("run_stream")
        wait_until(lambda: ledger.audit().landed == len(pictures), 90)
        counts = ledger.audit()
        assert (counts.seen, counts.dead, counts.difference) == (len(pictures), 0, 0)
        assert [process.stop() for process in (stream, scheduler, worker)] == [0, 0, 0]
    output = worker.output()
    assert output.count("image landed") == len(pictures)
    assert "Traceback" not in output
    assert sage.local.password not in output
    assert asyncio.run(objects(collection)) == len(pictures)


def test_a_model_server_that_is_away_costs_no_image_an_attempt(
    photos: Path, light_triton: Triton, collection: Weaviate, commands: Commands, ledger: Ledger
) -> None:
    pictures = load_folder(photos)[:3]
    with LocalSage(pictures, interval=0.01) as sage:
        ledger.sources.register(sage.local, 120)
        away = parts(light_triton, collection) | {"TRITON_PORT": "1"}
        worker = commands.celery("job_system", "-q", "worker", **away)
        others = [commands.role("run_scheduler"), commands.role("run_stream")]
        worker.says("triton_unavailable", seconds=60)
        assert worker.stop() == 0
        assert ledger.letters.count() == 0
        commands.celery("job_system", "-q", "worker", **parts(light_triton, collection))
        wait_until(lambda: ledger.audit().landed == len(pictures), 90)
        assert [process.stop() for process in others] == [0, 0]
