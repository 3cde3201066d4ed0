"""Exports: the same in every format, whole or continued, and never more in memory than a page and a group of rows."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arro3.io import read_parquet

from client import WeaviateStore
from errors import PartUnavailable, UsageError, WeavloaderError
from records import Place, SearchFilters, StoredImage, image_id
from searching import Finder
from settings import PROJECT_ROOT, Settings, Weaviate
from store import reading
from taking import export
from taking.export import Done, Export, Question
from tests.store.images import CHICAGO, DIMENSIONS, direction, image
from tests.taking.conftest import Land, names

SAID: dict[str, str | None] = {"since": None, "until": None}
IMAGES = 23


def question(format: str = "jsonl", **changes: Any) -> Question:
    return replace(Question(SAID, SearchFilters(), format, part_rows=5), **changes)


def number_of(ident: str) -> int:
    return [image_id("test", str(number)) for number in range(IMAGES)].index(ident)


async def exported(finder: Finder, out: Path, *asked: Any, **changes: Any) -> Done:
    return await Export(finder, question(*asked, **changes), out).run()


def rows_of(out: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of all parts, as one program after another would read them."""
    rows: list[dict[str, Any]] = []
    for part in manifest["parts"]:
        path = out / part["file"]
        if manifest["query"]["format"] == "parquet":
            for batch in read_parquet(path):
                columns = {name: batch[name].to_pylist() for name in batch.schema.names}
                rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        elif manifest["query"]["format"] == "jsonl":
            rows += map(json.loads, path.read_text().splitlines())
        else:
            with path.open(newline="") as file:
                rows += csv.DictReader(file)
    return rows


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that neither fit a part nor divide it."""
    monkeypatch.setattr(reading, "_PAGE", 4)
    monkeypatch.setattr(reading, "_VECTORS", 3)


async def switched(store: WeaviateStore) -> str:
    """Put a second version, of two images, in use; its name."""
    old, new = store.version_of(1, "one", "1"), store.version_of(2, "other", "1")
    await store.tell_apart(old)
    await store.make(new)
    with store.held(new):
        await asyncio.gather(*(store.land(image(number)) for number in (0, 1)))
    await store.put_in_use(new.collection)
    return new.collection


@pytest.mark.parametrize("vectors", [True, False])
async def test_an_export_over_a_switch_of_versions_has_one_models_vectors(
    land: Land,
    finder: Finder,
    collection: Weaviate,
    tmp_path: Path,
    few_at_a_time: None,
    vectors: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads to its end what it began with; what was killed is not continued with another model's vectors."""
    await land(*(image(number) for number in range(IMAGES)))
    store, pages, names = WeaviateStore(collection), finder.every, list[str]()

    async def every(*asked: Any, **changes: Any) -> AsyncIterator[list[StoredImage]]:
        async for page in pages(*asked, **changes):
            if not names:
                names.append(await switched(store))
                finder._store._let_go()  # as after some seconds
            yield page

    monkeypatch.setattr(finder, "every", every)
    try:
        done = await exported(finder, tmp_path / "whole", vectors=vectors)
        assert done.manifest["rows"] == IMAGES
        assert await finder.version() == names[0]
        out = tmp_path / "killed"
        out.mkdir()
        began = {"since": done.manifest["since"], "until": done.manifest["until"], "dimensions": DIMENSIONS}
        asked = question(vectors=vectors)
        noted = {**began, "began": "", "collection": collection.collection, "parts": []}
        export.write_json(out / "progress.json", {"query": asked.to_json(), **noted})
        if vectors:
            for run in (Export(finder, asked, out).run, Export(finder, asked, out).estimate):
                with pytest.raises(UsageError, match=f"{names[0]} is in use by now"):
                    await run()
        else:
            assert (await exported(finder, out)).manifest["rows"] == 2
    finally:
        await store.drop()
        await store.close()


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
async def test_every_image_is_a_row_with_all_that_is_known_of_it(
    land: Land, finder: Finder, tmp_path: Path, few_at_a_time: None, format: str
) -> None:
    places = {3: Place(project="SAGE")}
    caption = 'a "street", quiet\nat night 🚲'
    await land(
        *(
            image(
                number,
                caption=caption,
                keywords=("car", "tree")[: number % 3],
                place=places.get(number, CHICAGO),
            )
            for number in range(IMAGES)
        )
    )
    done = await exported(finder, tmp_path / "out", format, vectors=True)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == done.manifest
    rows = rows_of(tmp_path / "out", manifest)
    assert [number_of(row["id"]) for row in rows] == list(range(IMAGES))
    assert [list(row) for row in rows] == [[column["name"] for column in manifest["schema"]]] * IMAGES
    row, made = rows[7], image(7)
    assert row["time"] == made.record.timestamp
    texts = ("vsn", "node", "camera", "host", "job", "plugin", "task", "zone", "filename", "source")
    assert {name: row[name] for name in texts} == {name: getattr(made.record, name) for name in texts}
    assert (row["caption"], row["link"], row["content_hash"]) == (caption, made.record.url, made.content_hash)
    assert (row["caption_model"], row["caption_model_version"], row["prompt_version"]) == (
        "light_captioner",
        "1",
        "0f3a",
    )
    nothing = "" if format == "csv" else None
    assert (rows[3]["latitude"], rows[3]["longitude"]) == (nothing, nothing)
    assert float(row["latitude"]) == made.place.latitude
    assert int(row["width"]) == 1920
    assert row["keywords"] == ("car" if format == "csv" else ["car"])
    when = row["captured_at"]
    assert (when if isinstance(when, datetime) else datetime.fromisoformat(when)) == made.record.captured_at
    vector = json.loads(row["vector"]) if format == "csv" else row["vector"]
    stored = await finder.vector_of(row["id"])
    assert np.array_equal(np.array(vector, dtype=np.float32), stored)


async def test_the_manifest_has_the_counts_and_the_checksums_of_the_parts(
    land: Land, finder: Finder, tmp_path: Path, few_at_a_time: None
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    told: list[tuple[str, int, int | None]] = []
    asked = question("parquet", vectors=True)
    manifest = (await Export(finder, asked, tmp_path, lambda *how_far: told.append(how_far)).run()).manifest
    assert told[-1] == ("exporting", IMAGES, IMAGES)
    assert [part["rows"] for part in manifest["parts"]] == [5, 5, 5, 5, 3]
    assert (manifest["rows"], manifest["schema_version"]) == (IMAGES, export.SCHEMA_VERSION)
    assert manifest["created_by"].startswith("weavloader ")
    assert manifest["schema"][-1]["type"] == f"fixed_size_list<float>[{DIMENSIONS}]"
    assert manifest["query"]["format"] == "parquet"
    for part in manifest["parts"]:
        data = (tmp_path / part["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    files = [part["file"] for part in manifest["parts"]]
    assert names(tmp_path) == sorted([*files, "SHA256SUMS", "manifest.json"])
    check = await asyncio.create_subprocess_exec("sha256sum", "-c", "--quiet", "SHA256SUMS", cwd=tmp_path)
    assert await check.wait() == 0
    schema = read_parquet(tmp_path / "part-00001.parquet").schema
    assert "FixedSizeList(8 x non-null Float32)" in repr(schema.field("vector").type)


async def test_a_range_is_narrowed_and_both_of_its_ends_count(land: Land, finder: Finder, tmp_path: Path) -> None:
    await land(*(image(number) for number in range(5)), image(5, vsn="W099"), image(6, camera="left"))
    moments = [image(number).record.captured_at for number in range(7)]
    whole = SearchFilters(since=moments[1], until=moments[6])

    async def numbers(name: str, filters: SearchFilters) -> list[int]:
        done = await exported(finder, tmp_path / name, filters=filters)
        return [number_of(row["id"]) for row in rows_of(tmp_path / name, done.manifest)]

    assert await numbers("all", whole) == [1, 2, 3, 4, 5, 6]
    assert await numbers("node", replace(whole, vsn="W099")) == [5]
    assert await numbers("camera", replace(whole, camera="left")) == [6]
    assert await numbers("none", replace(whole, until=moments[1] - timedelta(seconds=1), since=None)) == [0]
    empty = await exported(finder, tmp_path / "empty", filters=replace(whole, vsn="W000"))
    assert (empty.manifest["rows"], empty.manifest["parts"]) == (0, [])


async def test_denied_nodes_are_not_exported(land: Land, collection: Weaviate, tmp_path: Path) -> None:
    await land(image(1), image(2, vsn="W099"))
    settings = Settings(weaviate=collection)
    finder = Finder(
        settings.model_copy(update={"sage": settings.sage.model_copy(update={"unallowed_nodes": ("W099",)})})
    )
    assert (await exported(finder, tmp_path)).manifest["rows"] == 1
    await finder.aclose()


async def test_what_is_whole_is_not_made_again(land: Land, finder: Finder, tmp_path: Path) -> None:
    await land(image(1))
    first = await exported(finder, tmp_path)
    await land(image(2))
    again = await exported(finder, tmp_path)
    assert (first.was_whole, again.was_whole) == (False, True)
    assert again.manifest == first.manifest
    with pytest.raises(UsageError, match="choose another folder"):
        await exported(finder, tmp_path, "csv")


async def test_a_folder_with_other_files_is_left_alone(land: Land, finder: Finder, tmp_path: Path) -> None:
    (tmp_path / "part-00001.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        await exported(finder, tmp_path)
    assert (tmp_path / "part-00001.jsonl").read_text() == "mine"


async def test_a_dry_run_tells_and_changes_nothing(
    land: Land, finder: Finder, tmp_path: Path, few_at_a_time: None
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    for kind in ("jsonl", "parquet", "csv"):
        out = tmp_path / kind
        estimate, whole = await Export(finder, question(kind, vectors=True), out).estimate()
        assert whole is None
        assert not names(tmp_path).count(kind)
        done = await exported(finder, out, kind, vectors=True)
        assert estimate.rows == IMAGES
        assert estimate.seconds > 0
        if kind != "parquet":  # where the little that is here is less than each file's own description
            assert estimate.bytes == pytest.approx(done.manifest["bytes"], rel=0.2)
        estimate, whole = await Export(finder, question(kind, vectors=True), out).estimate()
        assert (estimate.rows, whole) == (0, done.manifest)


async def test_an_estimate_of_what_is_half_done_is_of_the_rest(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    assert killed(collection, tmp_path / "out", "jsonl", 15) == -signal.SIGKILL
    kept = names(tmp_path / "out")
    estimate, _ = await Export(finder, question(), tmp_path / "out").estimate()
    assert 0 < estimate.rows < IMAGES
    assert estimate.rows % 5 == IMAGES % 5
    assert names(tmp_path / "out") == kept


def killed(collection: Weaviate, out: Path, format: str, step: int) -> int:
    """Export in a process that dies at a step. Its exit code."""
    vectors = "vectors" if format == "parquet" else ""
    return process(collection.model_dump_json(), out, format, vectors, "5", str(step)).returncode


def process(*words: str | Path, most_bytes: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess[str]:
    """`tests.taking.exporting` with these words; no file of its may grow larger than so many bytes."""
    return subprocess.run(
        [sys.executable, "-B", "-m", "tests.taking.exporting", *words],  # -B: it would leave cut bytecode
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
async def test_what_is_killed_at_any_step_goes_on_where_it_was(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path, format: str
) -> None:
    """Each run dies one step later than the one before it; together they come to the end."""
    await land(*(image(number) for number in range(IMAGES)))
    undisturbed = await exported(finder, tmp_path / "whole", format, vectors=format == "parquet")
    out = tmp_path / "out"
    finished: dict[str, tuple[int, str]] = {}
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        assert len(codes) < 12, codes
        codes.append(killed(collection, out, format, len(codes) + 2))
        noted = out / "progress.json"
        parts = json.loads(noted.read_text())["parts"] if noted.exists() else []
        for part in parts:
            path = out / part["file"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == part["sha256"]
            told = path.stat().st_ino, part["sha256"]
            assert finished.setdefault(part["file"], told) == told  # never made again
        if codes[-1]:
            whole = json.loads((out / "manifest.json").read_text()) if (out / "manifest.json").exists() else None
            assert whole is None or whole["rows"] == IMAGES
    assert set(codes) == {-signal.SIGKILL, 0}
    manifest = json.loads((out / "manifest.json").read_text())
    assert rows_of(out, manifest) == rows_of(tmp_path / "whole", undisturbed.manifest)
    assert [part["sha256"] for part in manifest["parts"]] == [part["sha256"] for part in undisturbed.manifest["parts"]]
    assert [name for name in names(out) if not name.startswith("part-")] == ["SHA256SUMS", "manifest.json"]


async def test_what_lands_meanwhile_does_not_move_the_rows_that_are_there(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path
) -> None:
    """The range's open end is that of the beginning, and what lands before the last row that was noted is left out."""
    await land(*(image(number) for number in range(2, IMAGES)))
    assert killed(collection, tmp_path, "jsonl", 15) == -signal.SIGKILL
    until = json.loads((tmp_path / "progress.json").read_text())["until"]
    await land(image(0), image(1))
    done = await exported(finder, tmp_path)
    assert done.rows_before == 10
    assert done.manifest["until"] == until
    assert [number_of(row["id"]) for row in rows_of(tmp_path, done.manifest)] == list(range(2, IMAGES))


async def test_a_part_that_was_damaged_is_made_again_with_those_after_it(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    assert killed(collection, tmp_path, "jsonl", 22) == -signal.SIGKILL
    noted = json.loads((tmp_path / "progress.json").read_text())["parts"]
    assert len(noted) == 3
    (tmp_path / noted[1]["file"]).write_text("damaged")
    done = await exported(finder, tmp_path)
    assert done.rows_before == 5
    assert [number_of(row["id"]) for row in rows_of(tmp_path, done.manifest)] == list(range(IMAGES))


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
async def test_what_cannot_be_written_is_said_and_the_export_goes_on_once_it_can(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path, format: str
) -> None:
    """A file that may not grow is refused at a write, as on a full disk."""
    await land(*(image(number, caption="long " * 400) for number in range(IMAGES)))
    words = (collection.model_dump_json(), tmp_path, format, "vectors", "50", "0")
    done = process(*words, most_bytes=20_000)
    assert re.search(r"WeavloaderError: \S+/part-00001\.\w+ cannot be written: File too large", done.stderr), (
        done.stderr
    )
    assert names(tmp_path) == ["progress.json"]
    assert (await exported(finder, tmp_path, format, vectors=True, part_rows=50)).manifest["rows"] == IMAGES


async def test_a_store_that_goes_away_ends_the_command_and_the_same_command_goes_on(
    land: Land, finder: Finder, tmp_path: Path, few_at_a_time: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    pages = finder.every

    async def interrupted(*asked: Any, **how: Any) -> AsyncIterator[list[StoredImage]]:
        async for page in pages(*asked, **how):
            yield page
            if number_of(page[-1].hit.result.id) > 12:
                raise PartUnavailable("weaviate", "Weaviate is away")

    with monkeypatch.context() as patch:
        patch.setattr(finder, "every", interrupted)
        with pytest.raises(PartUnavailable):
            await exported(finder, tmp_path)
    finished = [name for name in names(tmp_path) if name.startswith("part-")]
    assert names(tmp_path) == [*finished, "progress.json"]
    done = await exported(finder, tmp_path)
    assert done.rows_before == 5 * len(finished) >= 10
    assert [number_of(row["id"]) for row in rows_of(tmp_path, done.manifest)] == list(range(IMAGES))


async def test_another_store_does_not_end_an_export_that_is_under_way(
    land: Land, finder: Finder, collection: Weaviate, tmp_path: Path
) -> None:
    await land(*(image(number) for number in range(IMAGES)))
    assert killed(collection, tmp_path, "jsonl", 15) == -signal.SIGKILL
    empty = Finder(Settings(weaviate=collection.model_copy(update={"collection": "TestNothing"})))
    with pytest.raises(WeavloaderError, match="the same store and collection"):
        await exported(empty, tmp_path)
    await empty.aclose()
    assert (await exported(finder, tmp_path)).manifest["rows"] == IMAGES


async def test_without_vectors_in_the_store_none_are_exported(finder: Finder, tmp_path: Path) -> None:
    done = await exported(finder, tmp_path, "parquet", vectors=True)
    assert (done.manifest["rows"], done.manifest["schema"][-1]["type"]) == (0, "fixed_size_list<float>")


#: Numbers of a vector.
WIDE = 256
#: Rows of the smaller and of the larger export.
SMALL, LARGE = 1_000, 10_000
#: Most that the larger one may take more than the smaller one, in MB. Its rows alone would take 13 (measured).
MOST_GROWTH = 8


@pytest.fixture(scope="module")
def filled(weaviate_server: Weaviate) -> Iterator[Weaviate]:
    """A collection with the rows of the larger export."""
    section = weaviate_server.model_copy(update={"collection": "TestExportMemory"})

    async def fill() -> None:
        store = await WeaviateStore.open(section)
        for start in range(0, LARGE, 500):
            numbers = range(start, start + 500)
            await asyncio.gather(*(store.land(image(one, vector=direction(one, WIDE))) for one in numbers))
        await store.close()

    async def drop() -> None:
        store = WeaviateStore(section)
        await store.drop()
        await store.close()

    asyncio.run(fill())
    yield section
    asyncio.run(drop())


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_ten_times_as_many_rows_take_hardly_more_memory(filled: Weaviate, tmp_path: Path, format: str) -> None:
    """In one part each: what counts is that no part is ever in memory."""
    most: dict[str, int] = {}
    for name, rows in (("small", SMALL), ("large", LARGE)):
        until = image(rows - 1).record.captured_at.isoformat()
        out = tmp_path / name
        done = process(filled.model_dump_json(), out, format, "vectors", str(LARGE), "0", until)
        assert json.loads((out / "manifest.json").read_text())["rows"] == rows, done.stderr
        most[name] = int(done.stdout)
    assert (most["large"] - most["small"]) / 1024 < MOST_GROWTH, most
