"""`adopt` as a user runs it, beside a running product: killed, gone on with, and the audit's difference 0."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from weaviate.classes.config import Configure, DataType, Property

from tests.fixtures.house import ROOT, House, clean_environment, eventually

COUNT = 400
#: As many numbers as the light embedder gives.
DIMENSIONS = 384


@pytest.fixture(scope="module")
def field(house: House) -> Iterator[str]:
    """Another program's collection in the house's store: 400 pictures, ten of them twice."""
    name = f"Field{uuid.uuid4().hex}"
    texts = ("filename", "caption", "link", "timestamp", "vsn", "node", "camera")
    with house.sdk() as client:
        collection = client.collections.create(
            name,
            properties=[Property(name=text, data_type=DataType.TEXT) for text in texts],
            vector_config=Configure.Vectors.self_provided(name="clip"),
        )
        random = np.random.default_rng(1)
        with collection.batch.fixed_size(100) as batch:
            for number in [*range(COUNT), *range(10)]:
                batch.add_object(
                    {
                        "caption": f"a zebra crossing, number {number}",
                        "link": f"https://storage.sagecontinuum.org/{name}/{number}.jpg",
                        "timestamp": "2025-05-01T12:00:00Z",
                        "vsn": "W0A5",
                        "camera": "top",
                    },
                    vector={"clip": random.standard_normal(DIMENSIONS).tolist()},
                )
        yield name
        client.collections.delete(name)


def test_a_dry_run_tells_how_much_it_is_and_changes_nothing(house: House, field: str) -> None:
    before = house.json("audit")
    found = house.json("adopt", field, "--dry-run")
    assert (found["objects"], found["images"]) == (COUNT + 10, COUNT + 10)
    assert found["seconds"] > 0
    assert house.json("audit") == before


def test_killed_it_goes_on_and_every_picture_is_found(house: House, field: str) -> None:
    seen = house.json("audit")["seen"]
    with subprocess.Popen(
        [sys.executable, "main.py", "adopt", field],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        eventually(lambda: house.json("audit")["seen"] > seen or first.poll() is not None, every=0.01)
        first.send_signal(signal.SIGKILL)
    found = eventually(lambda: adopted(house, field), 30, every=1)
    assert found["new"] + found["known"] == COUNT + 10
    counts = house.json("audit")
    assert (counts["seen"] - seen, counts["difference"]) == (COUNT, 0)
    best = house.json("search", "zebra", "--alpha", "0", "--vsn", "W0A5", "--limit", "1000")["results"]
    assert len(best) == COUNT


def adopted(house: House, field: str) -> dict[str, int] | None:
    """What the command says; None while the killed one's lock lasts."""
    done = house.run("adopt", field, "--json")
    if done.returncode == 1 and "another adoption runs" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_collection_that_is_not_there_is_refused_by_name(house: House, field: str) -> None:
    done = house.run("adopt", "NoSuchCollection")
    assert done.returncode == 2
    assert "has no collection 'NoSuchCollection': it has " in done.stderr
    assert field in done.stderr


def test_our_own_collection_is_no_other_program_s(house: House) -> None:
    done = house.run("adopt", "HybridSearchExample")
    assert done.returncode == 2
    assert "WEAVLOADER_COLLECTION itself" in done.stderr
