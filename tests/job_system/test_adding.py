"""A person's folder is taken in: each picture once whatever happens, and what is none is told by name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from PIL import Image

from errors import PartUnavailable, WeavloaderError
from job_system.adding import Added, Adder
from ledger import Lease, Ledger
from records import ImageRecord, parse_timestamp
from sections import Fetch, Jobs, Paths, Sage, Web
from settings import Settings
from sources.own import OwnFiles, own_id
from sources.own_folder import NO_TABLE, FolderFile, Table, read_folder, read_table
from tests.inference.pictures import corners, encoded, noise
from tests.inference.test_exif import CHICAGO, OFFSET, ORIGINAL, exif
from tests.ledger.samples import make_letter

ZONE = ZoneInfo("Europe/Berlin")


class Bench:
    """A folder, a ledger, and an adder of both."""

    def __init__(self, settings: Settings, ledger: Ledger, folder: Path, cleanup: ExitStack) -> None:
        self.settings, self.ledger, self.folder = settings, ledger, folder
        self.published: list[ImageRecord] = []
        self.present: set[str] = set()
        self._cleanup = cleanup
        self.files = OwnFiles(settings.paths.data)

    def put(self, name: str, data: bytes) -> str:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        return own_id(hashlib.sha256(data).hexdigest())

    def found(self) -> list[FolderFile]:
        return list(read_folder(self.folder, self.files.folder, lambda _name, _why: None))

    def adder(self, publish: Callable[[Sequence[ImageRecord]], None] | None = None, **options: Any) -> Adder:
        made = Adder(
            self.settings,
            self.ledger,
            publish or self.published.extend,
            lambda ids: self.present & set(ids),
            **{"zone": UTC, **options},
        )
        return self._cleanup.enter_context(made)

    def add(self, **options: Any) -> Added:
        return self.adder(**options).add(self.found())

    def only(self) -> ImageRecord:
        (record,) = self.published
        return record


@pytest.fixture
def bench(ledger: Ledger, jobs_settings: Jobs, tmp_path: Path) -> Any:
    folder = tmp_path / "holiday"
    folder.mkdir()
    settings = Settings(
        paths=Paths(data=tmp_path / "data"),
        jobs=jobs_settings,
        web=Web(port=8123),
        sage=Sage(unallowed_nodes=("W0BAD",)),
        fetch=Fetch(max_bytes=1 << 20),
    )
    with ExitStack() as cleanup:
        yield Bench(settings, ledger, folder, cleanup)


def land(ledger: Ledger, record: ImageRecord) -> None:
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    assert ledger.land(lease)


def test_a_folder_is_queued_with_all_that_is_known_of_it(bench: Bench) -> None:
    times = exif({ORIGINAL: "2024:07:01 14:00:00", OFFSET: "+02:00"}, CHICAGO)
    data = encoded(corners(), exif=times)
    image = bench.put("sea/a.jpg", data)
    added = bench.add()
    record = bench.only()
    digest = hashlib.sha256(data).hexdigest()
    assert record == ImageRecord(
        id=image,
        source="own",
        url=f"http://127.0.0.1:8123/files/{digest}",
        timestamp="2024-07-01T12:00:00.000000000Z",
        captured_ns=parse_timestamp("2024-07-01T12:00:00Z"),
        filename="a.jpg",
        vsn="own",
        node="own",
        camera="sea",
        job="own",
        task="own",
        latitude=41.8818,
        longitude=-87.6232,
    )
    assert (added.new, added.pictures, added.new_size, added.times) == ([image], 1, len(data), Counter(exif=1))
    standing = bench.ledger.standing(image)
    assert standing is not None
    assert (standing.state, standing.record) == ("queued", record)
    assert bench.files.path(digest).read_bytes() == data
    assert list(bench.files.records()) == [record]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "GIF", "BMP"])
def test_every_format_is_taken(bench: Bench, format: str) -> None:
    bench.put("a.bin", encoded(corners(), format))
    assert len(bench.add().new) == 1


class TestTimes:
    def when(self, bench: Bench, camera: dict[int, Any], gps: dict[int, Any] | None = None, **options: Any) -> Any:
        bench.put("a.jpg", encoded(corners(), exif=exif(camera, gps)))
        os.utime(bench.folder / "a.jpg", ns=(0, 1_000_000_000_123_456_789))
        added = bench.add(**options)
        return bench.only().timestamp, *added.times

    def test_the_table_goes_first(self, bench: Bench, tmp_path: Path) -> None:
        table = tmp_path / "t.csv"
        table.write_text("filename,time,lat,lon,camera,node,project\na.jpg,2020-01-01T00:00:00+01:00,1,2,c,W0XX,p\n")
        found = self.when(bench, {ORIGINAL: "2024:07:01 14:00:00", OFFSET: "+02:00"}, CHICAGO, table=read_table(table))
        assert found == ("2019-12-31T23:00:00.000000000Z", "table")
        record = bench.only()
        assert (record.latitude, record.longitude, record.camera) == (1, 2, "c")
        assert (record.node, record.vsn, record.project) == ("W0XX", "W0XX", "p")

    def test_a_table_without_a_place_leaves_the_pictures_own(self, bench: Bench, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("filename,project\na.jpg,p\n")
        self.when(bench, {}, CHICAGO, table=read_table(tmp_path / "t.csv"))
        assert (bench.only().latitude, bench.only().project) == (41.8818, "p")

    def test_then_exif_with_its_zone(self, bench: Bench) -> None:
        gps = {29: "2024:07:01", 7: (9.0, 0.0, 0.0)}
        found = self.when(bench, {ORIGINAL: "2024:07:01 14:00:00", OFFSET: "-05:00", 0x9291: "5"}, gps)
        assert found == ("2024-07-01T19:00:00.500000000Z", "exif")

    def test_then_the_receivers(self, bench: Bench) -> None:
        gps = {29: "2024:07:01", 7: (12.0, 0.0, 5.0)}
        assert self.when(bench, {ORIGINAL: "2024:07:01 14:00:00"}, gps) == ("2024-07-01T12:00:05.000000000Z", "gps")

    @pytest.mark.parametrize(
        ("zone", "summer", "winter"),
        [
            (ZONE, "12:00:00", "13:00:00"),
            (UTC, "14:00:00", "14:00:00"),
            (timezone(timedelta(hours=2)), "12:00:00", "12:00:00"),
        ],
    )
    def test_then_exif_in_the_given_zone_with_its_summers(
        self, bench: Bench, zone: Any, summer: str, winter: str
    ) -> None:
        assert self.when(bench, {ORIGINAL: "2024:07:01 14:00:00"}, zone=zone) == (
            f"2024-07-01T{summer}.000000000Z",
            "zone",
        )
        bench.published.clear()
        assert self.when(bench, {ORIGINAL: "2024:01:01 14:00:00"}, zone=zone)[0] == f"2024-01-01T{winter}.000000000Z"

    def test_without_one_in_the_machines(self, bench: Bench) -> None:
        local = datetime(2024, 7, 1, 14).astimezone(UTC)
        found, _ = self.when(bench, {ORIGINAL: "2024:07:01 14:00:00"}, zone=None)
        assert found == f"{local:%Y-%m-%dT%H:%M:%S}.000000000Z"

    def test_at_last_the_files_date(self, bench: Bench) -> None:
        assert self.when(bench, {}) == ("2001-09-09T01:46:40.123456789Z", "file")

    @pytest.mark.parametrize("text", ["0001:01:01 00:00:00", "9999:12:31 23:59:59"])
    def test_a_year_that_cannot_be_is_no_time(self, bench: Bench, text: str) -> None:
        assert self.when(bench, {ORIGINAL: text}) == ("2001-09-09T01:46:40.123456789Z", "file")

    def test_a_picture_from_before_1970(self, bench: Bench) -> None:
        assert self.when(bench, {ORIGINAL: "1955:11:05 06:15:00"})[0] == "1955-11-05T06:15:00.000000000Z"


class TestOnce:
    @pytest.fixture(autouse=True)
    def some(self, bench: Bench) -> None:
        for number in range(3):
            bench.put(f"sea/{number}.jpg", encoded(noise(64, 48, number)))

    def test_added_again_adds_nothing(self, bench: Bench) -> None:
        assert len(bench.add().new) == 3
        again = bench.add()
        assert (again.new, again.known, again.pictures) == ([], 3, 3)
        assert len(bench.published) == 3
        assert bench.ledger.audit().seen == 3

    def test_renamed_moved_and_copied_adds_nothing(self, bench: Bench, tmp_path: Path) -> None:
        bench.add()
        moved = bench.folder.rename(tmp_path / "elsewhere")
        (moved / "sea" / "1.jpg").rename(moved / "other.jpeg")
        shutil.copytree(moved, tmp_path / "copy")
        for folder, known in ((moved, 3), (tmp_path / "copy", 3)):
            bench.folder = folder
            again = bench.add()
            assert (again.new, again.known) == ([], known)
        assert bench.ledger.audit().seen == 3

    def test_a_second_file_of_the_same_content_is_counted_apart(self, bench: Bench) -> None:
        shutil.copy(bench.folder / "sea/0.jpg", bench.folder / "sea/copy.jpg")
        for new, known in ((3, 0), (0, 3)):
            added = bench.add()
            assert (len(added.new), added.known, added.twice, added.pictures) == (new, known, 1, 4)

    def test_other_content_under_the_same_name_is_another_picture(self, bench: Bench) -> None:
        bench.add()
        bench.put("sea/0.jpg", encoded(noise(64, 48, 99)))
        assert len(bench.add().new) == 1

    def test_what_landed_and_is_remembered_stays_as_it_is(self, bench: Bench) -> None:
        bench.add()
        for record in list(bench.published):
            land(bench.ledger, record)
        assert bench.add().known == 3
        assert bench.ledger.audit().landed == 3

    def test_what_is_dead_is_known_and_said_to_be_dead(self, bench: Bench) -> None:
        bench.add()
        lease = bench.ledger.lease(bench.published[0])
        assert isinstance(lease, Lease)
        assert bench.ledger.bury(lease, make_letter(bench.published[0]))
        for _ in range(2):
            again = bench.add()
            assert (again.known, again.dead) == (3, 1)
            (bench.files.folder / "known.sqlite3").unlink(missing_ok=True)

    def test_what_the_ledger_forgot_is_known_by_the_store(self, bench: Bench) -> None:
        bench.add()
        for record in list(bench.published):
            land(bench.ledger, record)
        for _ in bench.ledger.forget_finished(-2):
            pass
        assert bench.ledger.standings([record.id for record in bench.published]) == {}
        bench.present = {record.id for record in bench.published[:2]}
        again = bench.add()
        assert (again.new, again.known) == ([bench.published[2].id], 2)

    def test_a_picture_that_is_gone_from_the_files_comes_back(self, bench: Bench) -> None:
        bench.add()
        digest = bench.published[0].url[-64:]
        bench.files.path(digest).unlink()
        assert bench.add().known == 3
        assert bench.files.holds(digest)

    def test_dry_it_tells_the_same_and_does_nothing(self, bench: Bench) -> None:
        bench.put("cut.jpg", encoded(noise(64, 48))[:-50])
        told = bench.add(dry=True)
        assert (bench.published, bench.ledger.audit().seen, bench.files.folder.exists()) == ([], 0, False)
        assert told.to_json() == bench.add().to_json()
        assert bench.add(dry=True).known == 3


class TestKilled:
    """Whatever step is the last one that was made, doing it again goes on behind it."""

    @pytest.fixture(autouse=True)
    def some(self, bench: Bench) -> None:
        for number in range(3):
            bench.put(f"{number}.jpg", encoded(noise(64, 48, number)))

    def broken(self, monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> None:
        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(where, name, die)

    @pytest.mark.parametrize("step", ["keep", "describe", "record", "remember"])
    def test_before_a_step(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        from job_system import adding

        owner: dict[str, object] = {"record": Ledger, "remember": adding.KnownFiles}
        with monkeypatch.context() as broken:
            self.broken(broken, owner.get(step, OwnFiles), step)
            with pytest.raises(KeyboardInterrupt):
                bench.add()
        added = bench.add()
        assert added.known + len(added.new) == 3
        assert len({record.id for record in bench.published}) == len(bench.published) == 3
        counts = bench.ledger.audit()
        assert (counts.seen, counts.difference) == (3, 0)
        assert len(list(bench.files.records())) == 3

    def test_between_ledger_and_queue_the_sweep_sends_the_message(self, bench: Bench) -> None:
        def away(_records: Sequence[ImageRecord]) -> None:
            raise PartUnavailable("redis", "the broker is away")

        with pytest.raises(PartUnavailable):
            bench.add(publish=away)
        again = bench.add()
        assert (again.new, again.known, bench.published) == ([], 3, [])
        now = bench.ledger._connection.command("TIME")[0]
        swept = bench.ledger.sweep(now=int(now) + bench.settings.jobs.lost_after + 10)
        assert len(swept) == 3
        assert bench.ledger.audit().difference == 0

    def test_a_full_disk_ends_it_with_what_to_do_and_it_goes_on_later(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", full)
            with pytest.raises(WeavloaderError, match="no space left on device"):
                bench.add()
        assert bench.ledger.audit().seen == 0
        assert list((bench.files.folder / "incoming").iterdir()) == []
        assert len(bench.add().new) == 3


class TestLeftOut:
    def test_each_is_told_by_name_and_cause_and_the_rest_is_taken(self, bench: Bench, tmp_path: Path) -> None:
        good = encoded(noise(64, 48))
        bench.put("good.jpg", good)
        for kind in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF"):
            data = encoded(noise(64, 48), kind)
            bench.put(f"cut.{kind.lower()}", data[: len(data) * 2 // 3])
        bench.put("empty.jpg", b"")
        bench.put("notes.txt", b"no picture")
        bench.put("page.html", b"<html>")
        bench.put("huge.jpg", bytes((1 << 20) + 1))
        bench.put("icon.ico", encoded(corners(), "ICO"))
        bench.put("coming.jpg.part", good)
        told: list[str] = []
        added = bench.adder().add(bench.found(), tell=lambda left: told.append(left.name))
        assert len(added.new) == 1
        assert {left.name: left.cause for left in added.left_out} == {
            "cut.jpeg": "image_truncated",
            "cut.png": "image_truncated",
            "cut.webp": "image_truncated",
            "cut.tiff": "image_truncated",
            "cut.heif": "image_truncated",
            "empty.jpg": "image_empty",
            "notes.txt": "not_an_image",
            "page.html": "not_an_image",
            "huge.jpg": "image_too_large",
            "icon.ico": "image_format",
            "coming.jpg.part": "unfinished",
        }
        assert sorted(told) == sorted(left.name for left in added.left_out)
        assert bench.ledger.audit().seen == 1
        assert (added.files, added.pictures) == (12, 1)

    def test_a_file_that_changes_meanwhile_or_goes_is_told(self, bench: Bench) -> None:
        for name in ("changes.jpg", "goes.jpg", "stays.jpg"):
            bench.put(name, encoded(noise(64, 48, len(name))))
        files = bench.found()
        (bench.folder / "goes.jpg").unlink()
        with (bench.folder / "changes.jpg").open("ab") as file:
            file.write(b"more")
        added = bench.adder().add(files)
        assert {left.name: left.cause for left in added.left_out} == {
            "changes.jpg": "changing",
            "goes.jpg": "unreadable",
        }
        assert len(added.new) == 1

    def test_nodes_that_are_not_allowed_are_skipped_with_the_reason(self, bench: Bench, tmp_path: Path) -> None:
        bench.put("a.jpg", encoded(corners()))
        (tmp_path / "t.csv").write_text("filename,node\na.jpg,w0bad\n")
        for _ in range(2):
            added = bench.add(table=read_table(tmp_path / "t.csv"))
            assert (added.denied, added.new, bench.published) == (1, [], [])
        counts = bench.ledger.audit()
        assert (counts.seen, counts.skipped, counts.difference) == (1, 1, 0)
        assert not list(bench.files.records())


def test_many_are_taken_in_batches_between_which_it_may_wait(bench: Bench) -> None:
    for number in range(130):
        bench.put(f"{number:03}.png", encoded(Image.new("RGB", (8, 8), (number, 0, 0)), "PNG"))
    done: list[tuple[int, int]] = []
    waits: list[int] = []
    adder = bench.adder()
    added = adder.add(bench.found(), lambda *step: done.append(step), before=lambda: waits.append(len(bench.published)))
    assert (len(added.new), done, waits) == (130, [(64, 130), (128, 130), (130, 130)], [0, 64, 128])


def test_a_table_may_be_changed_between_two_looks(bench: Bench) -> None:
    adder = bench.adder(table=NO_TABLE)
    bench.put("a.jpg", encoded(noise(64, 48, 1)))
    adder.add(bench.found())
    adder.table = Table({"b.jpg": replace(read_row(bench), project="p")}, (), {})
    bench.put("b.jpg", encoded(noise(64, 48, 2)))
    adder.add(bench.found())
    assert [record.project for record in bench.published] == ["", "p"]


def read_row(bench: Bench) -> Any:
    path = bench.settings.paths.data / "row.csv"
    path.write_text("filename\nb.jpg\n")
    return read_table(path).row("b.jpg")
