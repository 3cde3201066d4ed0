"""A back-up of a real ledger and a real store, put back: what it holds, what it refuses, and what a kill leaves."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import pytest_asyncio

from client import WeaviateStore
from errors import EXIT_FAILED, ConfigurationError, PartUnavailable, UsageError, WeavloaderError
from job_system.reindex_ends import versions_held
from ledger import Lease, Ledger
from records import ImageRecord
from settings import PROJECT_ROOT, Jobs, Loaded, Paths, Sage, Settings, Weaviate
from stack.weaviate import Installed
from taking.backup import PROGRESS, QUESTION, Backup
from taking.files import write_json
from taking.restore import Restore, Restored
from tests.containers.files import S3_FILE, services
from tests.fixtures.redis import Valkey
from tests.fixtures.weaviate import WeaviateServer
from tests.store.images import image
from tests.taking.conftest import names


class System:
    """A ledger and a store of one test's own, and what lands by hand."""

    def __init__(self, loaded: Loaded, ledger: Ledger, store: WeaviateStore) -> None:
        self.loaded, self.ledger, self.store = loaded, ledger, store
        self.published: list[ImageRecord] = []

    async def land(self, *numbers: int, known: bool = True) -> None:
        """Land images; one that is not ``known`` afterwards had its worker killed before it told the ledger."""
        for number in numbers:
            lease = self.ledger.lease(record(number))
            assert isinstance(lease, Lease)
            await self.store.land(image(number))
            if known:
                assert self.ledger.land(lease)
            else:
                assert self.ledger.release(lease)

    def backup(self, out: Path, **how: Any) -> Backup:
        return Backup(self.loaded, self.ledger, self.store, out, **how)

    async def restore(self, folder: Path, only: str | None = None, *, replace: bool = True) -> Restored:
        kept = Restore(self.loaded.settings, self.ledger, self.store, folder, only)
        return await kept.run(self.published.extend, replace=replace)

    async def lose_store(self) -> None:
        await self.store.drop()

    def lose_ledger(self) -> None:
        self.ledger.copies.wipe()

    def queued(self) -> set[str]:
        """The ids of all images that a model will be asked for."""
        return {record.id for record in self.ledger.sweep(time.time() + 10**6)}


def record(number: int) -> ImageRecord:
    return image(number).record


@pytest_asyncio.fixture
async def system(collection: Weaviate, jobs_settings: Jobs, ledger: Ledger, tmp_path: Path) -> AsyncIterator[System]:
    settings = Settings(
        jobs=jobs_settings,
        weaviate=collection.model_copy(update={"linger": 0.0}),
        paths=Paths(data=tmp_path / "data"),
        sage=Sage(user="somebody", password="a secret word", unallowed_nodes="W001,W002"),
    )
    origins = {"SAGE_USER": "environment", "SAGE_PASS": "environment", "UNALLOWED_NODES": "weavloader.toml"}
    store = WeaviateStore(settings.weaviate)
    yield System(Loaded(settings, MappingProxyType(origins)), ledger, store)
    await store.drop()
    await store.close()


async def test_a_back_up_says_what_it_holds_and_keeps_no_credentials(system: System, tmp_path: Path) -> None:
    await system.land(1, 2, 3)
    system.ledger.record([record(4)])
    out = tmp_path / "out"
    manifest = await system.backup(out).run()
    assert names(out) == ["ledger.jsonl.gz", "manifest.json", "weaviate", "weavloader.toml"]
    assert (manifest["ledger"]["image"], manifest["ledger"]["traces"], manifest["store"]["objects"]) == (1, 3, 3)
    assert manifest["store"]["files_here"]
    assert {told["file"] for told in manifest["files"]} >= {"ledger.jsonl.gz", "weavloader.toml"}
    text = (out / "weavloader.toml").read_text()
    assert 'user = "somebody"' in text
    assert 'unallowed_nodes = ["W001", "W002"]' in text
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"a secret word" not in everything
    assert system.loaded.settings.weaviate.api_key.encode() not in everything


async def test_a_back_up_is_for_its_owners_eyes_wherever_it_is_taken(system: System, tmp_path: Path) -> None:
    """Each file and folder by itself: whoever packs them takes their modes along."""
    await system.land(1)
    out = tmp_path / "out"
    await system.backup(out).run()
    modes = {(path.is_dir(), oct(path.stat().st_mode & 0o777)) for path in (out, *out.rglob("*"))}
    assert modes == {(True, "0o700"), (False, "0o600")}


async def test_both_lost_and_put_back_are_as_they_were(system: System, tmp_path: Path) -> None:
    await system.land(1, 2, 3)
    system.ledger.record([record(4)])
    leased = system.ledger.lease(record(5))
    assert isinstance(leased, Lease)
    before = system.ledger.audit()
    await system.backup(tmp_path / "out").run()
    assert system.ledger.land(leased)
    await system.lose_store()
    system.lose_ledger()
    done = await system.restore(tmp_path / "out", replace=False)
    assert (done.objects, done.counts.difference, done.counts.landed) == (3, 0, 3)
    assert done.counts.pending == before.pending + before.leased == 2
    assert system.queued() == {record(4).id, record(5).id}
    assert await system.store.present([record(n).id for n in (1, 2, 3)]) == {record(n).id for n in (1, 2, 3)}
    assert await system.store.vector_of(record(2).id) is not None


async def test_what_lands_between_the_ledgers_copy_and_the_stores_is_not_asked_for_again(
    system: System, tmp_path: Path
) -> None:
    """One was on its way when the ledger was copied, another not even seen."""
    await system.land(1)
    system.ledger.record([record(2)])
    begin = system.store.begin_copy

    async def land_first(backend: str, id: str) -> None:
        await system.land(2, 3)
        await begin(backend, id)

    system.store.begin_copy = land_first  # type: ignore[method-assign]
    await system.backup(tmp_path / "out").run()
    await system.lose_store()
    system.lose_ledger()
    done = await system.restore(tmp_path / "out")
    assert (done.rebuilt.new, done.rebuilt.waited, done.objects) == (1, 1, 3)
    assert (done.counts.seen, done.counts.landed, done.counts.difference) == (3, 3, 0)
    assert system.queued() == set()
    assert system.ledger.record([record(n) for n in (1, 2, 3)]) == []


async def test_an_older_ledger_learns_what_landed_since(system: System, tmp_path: Path) -> None:
    await system.land(1)
    await system.backup(tmp_path / "out").run()
    await system.land(2, 3)
    system.lose_ledger()
    done = await system.restore(tmp_path / "out", "ledger", replace=False)
    assert (done.counts.seen, done.counts.landed, done.counts.difference) == (3, 3, 0)
    assert system.ledger.record([record(n) for n in (1, 2, 3)]) == []


async def test_an_older_store_beside_the_newer_ledger_lacks_only_what_landed_since(
    system: System, tmp_path: Path
) -> None:
    """The deep audit's repair queues that (tests/job_system/test_deep_audit.py)."""
    await system.land(1, 2)
    await system.backup(tmp_path / "out").run()
    await system.land(3)
    await system.lose_store()
    done = await system.restore(tmp_path / "out", "store", replace=False)
    assert (done.objects, done.counts.landed, done.counts.difference) == (2, 3, 0)
    assert await system.store.present([record(3).id]) == set()


async def test_a_worker_killed_before_it_told_the_ledger_costs_no_second_call(system: System, tmp_path: Path) -> None:
    await system.land(1)
    await system.land(2, known=False)
    await system.backup(tmp_path / "out").run()
    done = await system.restore(tmp_path / "out")
    assert (done.counts.landed, system.queued()) == (2, set())


async def test_an_empty_system_is_backed_up_and_put_back(system: System, tmp_path: Path) -> None:
    manifest = await system.backup(tmp_path / "out").run()
    assert manifest["store"] is None
    done = await system.restore(tmp_path / "out", replace=False)
    assert (done.counts.seen, done.objects) == (0, 0)


async def test_a_system_that_is_not_empty_is_replaced_only_when_told(system: System, tmp_path: Path) -> None:
    await system.land(1)
    await system.backup(tmp_path / "out").run()
    await system.land(2)
    with pytest.raises(UsageError, match=r"knows 2 images and the store holds 2 objects already: --replace"):
        await system.restore(tmp_path / "out", replace=False)
    assert (system.ledger.audit().seen, await system.store.count()) == (2, 2)
    done = await system.restore(tmp_path / "out")
    assert (done.counts.seen, done.objects) == (1, 1)


async def test_a_folder_that_is_no_back_up_is_refused(system: System, tmp_path: Path) -> None:
    for folder, why in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "no manifest.json")):
        with pytest.raises(UsageError, match=f"is no back-up: .*{why}"):
            await system.restore(folder)
    (tmp_path / "manifest.json").write_text('{"rows": 3}')  # an export's
    with pytest.raises(UsageError, match="another command's"):
        await system.restore(tmp_path)


async def test_a_damaged_back_up_is_refused_before_anything_is_removed(system: System, tmp_path: Path) -> None:
    await system.land(1)
    out = tmp_path / "out"
    manifest = await system.backup(out).run()
    for told in manifest["files"]:
        path = out / told["file"]
        whole = path.read_bytes()
        if not whole:
            continue
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(WeavloaderError, match=f"is damaged: {told['file']}"):
            await system.restore(out)
        path.write_bytes(whole)
    (out / "ledger.jsonl.gz").rename(out / "elsewhere")
    with pytest.raises(WeavloaderError, match=r"ledger.jsonl.gz: No such file"):
        await system.restore(out)
    (out / "elsewhere").rename(out / "ledger.jsonl.gz")
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"lines":', '"lies":'))
    with pytest.raises(WeavloaderError, match=r"is damaged: manifest.json"):
        await system.restore(out)
    assert (system.ledger.audit().landed, await system.store.count()) == (1, 1)


async def test_a_newer_format_is_refused(system: System, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = await system.backup(out).run()
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": 3, "created_by": "weavloader 9"}))
    with pytest.raises(WeavloaderError, match=r"by a newer version \(weavloader 9, format 3; this one knows 2\)"):
        await system.restore(out)


async def test_a_folder_with_a_back_up_or_something_else_is_not_written_into(system: System, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = await system.backup(out).run()
    with pytest.raises(UsageError, match=f"holds a back-up already \\(of {manifest['began']}\\)"):
        await system.backup(out).run()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        await system.backup(tmp_path).run()
    with pytest.raises(WeavloaderError, match=r"mine.txt cannot be written"):
        await system.backup(tmp_path / "mine.txt").run()


async def test_another_collection_is_not_mixed_up(system: System, tmp_path: Path) -> None:
    await system.land(1)
    await system.backup(tmp_path / "out").run()
    section = system.loaded.settings.weaviate.model_copy(update={"collection": "TestAnother"})
    settings = system.loaded.settings.model_copy(update={"weaviate": section})
    store = WeaviateStore(section)
    try:
        with pytest.raises(UsageError, match="set WEAVLOADER_COLLECTION to it, not to TestAnother"):
            await Restore(settings, system.ledger, store, tmp_path / "out").run(print, replace=True)
    finally:
        await store.close()


async def test_settings_that_have_changed_are_told(system: System, tmp_path: Path) -> None:
    await system.backup(tmp_path / "out").run()
    sage = system.loaded.settings.sage.model_copy(update={"user": "another"})
    settings = system.loaded.settings.model_copy(update={"sage": sage})
    kept = Restore(settings, system.ledger, system.store, tmp_path / "out")
    assert kept.settings_apart() == {"SAGE_USER": {"then": "somebody", "now": "another"}}


async def test_an_estimate_writes_nothing(system: System, tmp_path: Path) -> None:
    await system.land(1, 2)
    estimate = await system.backup(tmp_path / "out").estimate()
    assert (estimate.images, estimate.objects, estimate.on_their_way) == (2, 2, 0)
    assert estimate.free > 0
    assert estimate.store_bytes is not None
    assert estimate.bytes > estimate.store_bytes > 0
    assert not (tmp_path / "out").exists()


def process(system: System, step: int, *words: str, most_bytes: int = resource.RLIM_INFINITY) -> Any:
    """A command in a process that dies at a step, or in which no file may grow larger than so many bytes."""
    settings = system.loaded.settings
    environment = {
        "CELERY_BROKER_URL": settings.jobs.broker_url,
        "WEAVIATE_HOST": settings.weaviate.host,
        "WEAVIATE_PORT": str(settings.weaviate.http_port),
        "WEAVIATE_GRPC_PORT": str(settings.weaviate.grpc_port),
        "WEAVIATE_API_KEY": settings.weaviate.api_key,
        "WEAVLOADER_COLLECTION": settings.weaviate.collection,
        "WEAVLOADER_DATA_DIR": str(settings.paths.data),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        [sys.executable, "-B", "-m", "tests.taking.dying", str(step), *words],  # -B: it would leave cut bytecode
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )


def unlock(system: System, valkey: Valkey) -> None:
    """Let the locks of a killed command run out at once."""
    for key in valkey.client.scan_iter("weavloader:lock:*"):
        valkey.client.delete(key)


def left_at_the_server(backends: Mapping[str, str]) -> set[Path]:
    return {path for path in Path(backends["filesystem"]).rglob("*") if path.is_file()}


async def test_a_killed_back_up_is_none_and_the_same_command_makes_it_anew(
    system: System, valkey: Valkey, tmp_path: Path
) -> None:
    """Killed at the ledger's file, amid the store's and before the manifest has its name."""
    await system.land(1, 2)
    out = tmp_path / "out"
    before = left_at_the_server(await system.store.backends())  # by other tests, of which one leaves it there
    files = len((await system.backup(tmp_path / "whole").run())["files"])  # each takes three steps, as the mark does
    for step, left in ((9, "ledger.jsonl.gz"), (12, "weaviate"), (3 * files + 5, "weaviate")):
        assert process(system, step, "backup", str(out)).returncode == -signal.SIGKILL
        unlock(system, valkey)
        assert left in names(out)
        with pytest.raises(UsageError, match="is no back-up"):
            await system.restore(out)
    assert process(system, 0, "backup", str(out)).returncode == 0
    assert left_at_the_server(await system.store.backends()) == before
    assert json.loads((out / "manifest.json").read_text())["left_at_server"] == []
    done = await system.restore(out)
    assert (done.objects, done.counts.landed, done.counts.difference) == (2, 2, 0)


async def test_what_killed_back_ups_left_at_a_server_elsewhere_is_named(system: System, tmp_path: Path) -> None:
    """In a bucket, say: nothing of ours can remove it. It was noted before a second command was killed."""
    out = tmp_path / "out"
    out.mkdir()
    first, second = ({"id": f"weavloader-20260301-00000{n}-abcdef", "backend": "s3"} for n in (1, 2))
    write_json(out / PROGRESS, {"query": QUESTION, **second, "left": [first]})
    done = process(system, 0, "backup", str(out))
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["left_at_server"] == [first, second]
    for left in (first, second):
        assert f"a killed command may have left {left['id']} at the server's own place (backup-s3)" in done.stdout


async def test_a_killed_restore_goes_on_without_being_told_to_replace(
    system: System, valkey: Valkey, tmp_path: Path
) -> None:
    await system.land(1, 2)
    out = tmp_path / "out"
    await system.backup(out).run()
    await system.lose_store()
    system.lose_ledger()
    assert process(system, 2, "restore", str(out)).returncode == -signal.SIGKILL  # amid the store's files
    unlock(system, valkey)
    system.ledger.record([record(7)])
    done = process(system, 0, "restore", str(out), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["objects"], told["audit"]["landed"], told["audit"]["difference"]) == (2, 2, 0)
    refused = process(system, 0, "restore", str(out))
    assert (refused.returncode, "--replace" in refused.stderr) == (2, True)


async def test_a_full_disk_is_said_and_the_same_command_makes_it_anew(
    system: System, valkey: Valkey, tmp_path: Path
) -> None:
    """A file that may not grow is refused at a write, as on a full disk."""
    system.ledger.record([record(number) for number in range(2000)])
    out = tmp_path / "out"
    done = process(system, 0, "backup", str(out), most_bytes=20_000)
    assert done.returncode == 1
    assert f"{out}/ledger.jsonl.gz cannot be written: File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (out / "manifest.json").exists()
    assert process(system, 0, "backup", str(out)).returncode == 0
    assert (await system.restore(out)).counts.pending == 2000


async def test_only_one_is_at_it(system: System, tmp_path: Path) -> None:
    with (
        system.ledger.lock("maintenance", 30),
        pytest.raises(WeavloaderError, match="wait for its end"),
    ):
        await system.backup(tmp_path / "out").run()


async def test_no_restore_begins_while_a_reindex_does(system: System, tmp_path: Path) -> None:
    await system.backup(tmp_path / "out").run()
    with versions_held(system.ledger), pytest.raises(WeavloaderError, match="or a restoring runs") as refused:
        await system.restore(tmp_path / "out")
    assert refused.value.exit_code == EXIT_FAILED, "given again a little later it goes on"


async def test_a_restore_waits_for_what_is_in_work(system: System, tmp_path: Path) -> None:
    await system.backup(tmp_path / "out").run()
    lease = system.ledger.lease(record(1))
    assert isinstance(lease, Lease)
    told: list[int] = []

    def report(step: str, done: int, total: int | None) -> None:
        if step == "waiting for images in work":
            told.append(done)
            system.ledger.land(lease)

    kept = Restore(system.loaded.settings, system.ledger, system.store, tmp_path / "out", report=report)
    await kept.run(print, replace=True)
    assert told == [1]


async def test_nothing_is_taken_while_it_runs(system: System, tmp_path: Path) -> None:
    await system.land(1)
    await system.backup(tmp_path / "out").run()
    seen: list[str] = []

    def report(step: str, done: int, total: int | None) -> None:
        if step == "putting the ledger back" and not seen:
            refused = system.ledger.lease(record(9))
            assert not isinstance(refused, Lease)
            seen.append(refused.reason)

    kept = Restore(system.loaded.settings, system.ledger, system.store, tmp_path / "out", report=report)
    await kept.run(print, replace=True)
    assert seen == ["held"]
    assert isinstance(system.ledger.lease(record(9)), Lease)


@pytest.fixture
def bare(weaviate_binary: Installed, tmp_path: Path) -> Iterator[Weaviate]:
    """A server of somebody else's, without a place for back-ups."""
    server = WeaviateServer(weaviate_binary, tmp_path / "bare")
    server.environment = {"ENABLE_MODULES": ""}
    with server.running() as section:
        yield section


async def test_a_server_without_a_place_for_back_ups_is_named_with_the_remedy(
    system: System, bare: Weaviate, tmp_path: Path
) -> None:
    store = WeaviateStore(bare)
    try:
        with pytest.raises(ConfigurationError, match="ENABLE_MODULES=backup-filesystem"):
            await Backup(system.loaded, system.ledger, store, tmp_path / "out").run()
    finally:
        await store.close()
    assert not (tmp_path / "out" / "manifest.json").exists()


async def test_a_server_that_is_away_ends_both_commands(system: System, tmp_path: Path) -> None:
    await system.backup(tmp_path / "out").run()
    section = system.loaded.settings.weaviate.model_copy(update={"port": 1, "grpc_port": 2})
    away = WeaviateStore(section)
    try:
        with pytest.raises(PartUnavailable):
            await Backup(system.loaded, system.ledger, away, tmp_path / "other").run()
        with pytest.raises(PartUnavailable):
            await Restore(system.loaded.settings, system.ledger, away, tmp_path / "out").run(print, replace=True)
        no_broker = Ledger(Jobs(broker_url="redis://127.0.0.1:1/0"))
        with pytest.raises(PartUnavailable):
            await Backup(system.loaded, no_broker, system.store, tmp_path / "third").run()
    finally:
        await away.close()


async def test_a_bucket_that_does_not_answer_is_said_in_one_line(
    system: System, weaviate_binary: Installed, tmp_path: Path
) -> None:
    """The server has the module and the settings of docker-compose.s3.yml."""
    given = services(S3_FILE)["weaviate"]["environment"]
    server = WeaviateServer(weaviate_binary, tmp_path / "server")
    server.environment = dict.fromkeys(given, "x") | {
        "ENABLE_MODULES": given["ENABLE_MODULES"],
        "BACKUP_S3_BUCKET": "backups",
        "BACKUP_S3_ENDPOINT": "127.0.0.1:1",
        "BACKUP_S3_USE_SSL": "false",
    }
    with server.running() as section:
        store = WeaviateStore(section.model_copy(update={"collection": system.loaded.settings.weaviate.collection}))
        try:
            assert await store.backends() == {"s3": ""}
            await store.land(image(1))
            with pytest.raises(WeavloaderError, match=r"does not begin the back-up: .*s3://backups/x") as raised:
                await Backup(system.loaded, system.ledger, store, tmp_path / "out").run()
        finally:
            await store.close()
    assert len(str(raised.value).splitlines()) == 1


async def test_a_server_on_another_host_keeps_its_part_and_puts_it_back(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container does, whose volume nobody else has: it has the module, at a path that is not here."""

    async def not_here() -> dict[str, str]:
        return {"filesystem": "/var/lib/weaviate-backups"}

    monkeypatch.setattr(system.store, "backends", not_here)
    await system.land(1, 2)
    manifest = await system.backup(tmp_path / "out").run()
    assert not manifest["store"]["files_here"]
    assert "weaviate" not in names(tmp_path / "out")
    await system.lose_store()
    system.lose_ledger()
    done = await system.restore(tmp_path / "out")
    assert (done.objects, done.counts.landed, done.counts.difference) == (2, 2, 0)
