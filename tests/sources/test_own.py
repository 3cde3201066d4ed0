"""A person's own pictures: kept by content, found in a folder, described by a table, complete before they count."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
import unicodedata
from pathlib import Path

import pytest

import settings
from errors import PermanentError, TransientError, UsageError, WeavloaderError
from records import OWN, ImageRecord, Place, format_timestamp, own_digest
from sources import ImageFetcher, NodePlaces, OwnFiles
from sources.own import own_id, own_url
from sources.own_folder import FolderFile, KnownFiles, read_folder, read_table
from sources.own_watch import COMING_SECONDS, QUIET_SECONDS, SETTLED_SECONDS, Settling

DATA = b"\xff\xd8\xff a picture"
DIGEST = hashlib.sha256(DATA).hexdigest()


def record(digest: str = DIGEST, ns: int = 1, address: str = "http://127.0.0.1:8000", **more: float) -> ImageRecord:
    return ImageRecord(own_id(digest), OWN, own_url(address, digest), format_timestamp(ns), ns, "a.jpg", **more)


def quiet(_name: str, _why: str) -> None:
    pass


class TestFiles:
    def test_a_picture_is_kept_under_its_content(self, tmp_path: Path) -> None:
        files = OwnFiles(tmp_path)
        assert not files.holds(DIGEST)
        files.keep(DIGEST, DATA)
        assert files.holds(DIGEST)
        assert (tmp_path / "files" / DIGEST[:2] / DIGEST).read_bytes() == DATA
        assert stat.S_IMODE(files.path(DIGEST).stat().st_mode) == 0o600
        assert list((tmp_path / "files" / "incoming").iterdir()) == []

    def test_a_kept_picture_is_not_written_again_and_a_cut_one_is(self, tmp_path: Path) -> None:
        files = OwnFiles(tmp_path)
        files.keep(DIGEST, DATA)
        before = files.path(DIGEST).stat().st_ino
        files.keep(DIGEST, DATA)
        assert files.path(DIGEST).stat().st_ino == before
        files.path(DIGEST).write_bytes(DATA[:3])
        files.keep(DIGEST, DATA)
        assert files.path(DIGEST).read_bytes() == DATA

    def test_records_come_back_by_their_time(self, tmp_path: Path) -> None:
        files = OwnFiles(tmp_path)
        digests = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]
        for number, digest in enumerate(digests):
            files.keep(digest, bytes([number]))
            files.describe(digest, record(digest, ns=10 - number, latitude=1.5))
        (files.folder / "aa").mkdir(exist_ok=True)
        (files.folder / "aa" / "damaged.json").write_text("{")
        page = files.page(9)
        assert page.records == (record(digests[1], ns=9, latitude=1.5), record(digests[0], ns=10, latitude=1.5))
        assert (page.newest_ns, page.complete_ns) == (10, None)
        files.path(digests[0]).unlink()
        assert files.page(9).records == page.records[:1], "a record without its picture is of no use"

    def test_what_a_killed_process_left_is_removed_and_what_is_written_now_is_not(self, tmp_path: Path) -> None:
        incoming = tmp_path / "files" / "incoming"
        incoming.mkdir(parents=True)
        for name, age in (("old", 7200), ("new", 0)):
            (incoming / name).touch()
            os.utime(incoming / name, (time.time() - age,) * 2)
        OwnFiles(tmp_path).sweep()
        assert [path.name for path in incoming.iterdir()] == ["new"]

    def test_a_disk_that_takes_nothing_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "files").write_text("in the way")
        with pytest.raises(WeavloaderError, match=r"does not take pictures .*make room or set WEAVLOADER_DATA_DIR"):
            OwnFiles(tmp_path).keep(DIGEST, DATA)

    @pytest.mark.parametrize(
        ("url", "digest"),
        [
            (f"http://x:8000/files/{DIGEST}", DIGEST),
            (f"https://x/below/a/prefix/files/{DIGEST}", DIGEST),
            (f"/files/{DIGEST}", DIGEST),
            (f"http://x/files/{DIGEST[:-1]}", ""),
            (f"http://x/files/{DIGEST.upper()}", ""),
            ("https://storage.example.org/1.jpg", ""),
            ("", ""),
        ],
    )
    def test_a_link_tells_the_content_whatever_its_address(self, url: str, digest: str) -> None:
        assert own_digest(url) == digest


class TestFetching:
    @pytest.fixture
    def files(self, tmp_path: Path) -> OwnFiles:
        files = OwnFiles(tmp_path)
        files.keep(DIGEST, DATA)
        return files

    async def fetched(self, files: OwnFiles | None, wanted: ImageRecord, **section: int) -> bytes:
        fetcher = ImageFetcher(settings.Fetch(**section), list, own=files)
        try:
            return await fetcher.fetch(wanted)
        finally:
            await fetcher.close()

    async def test_it_is_read_without_a_connection_whatever_its_link_says(self, files: OwnFiles) -> None:
        assert await self.fetched(files, record(address="https://gone.example.org")) == DATA

    async def test_many_share_the_room_for_bytes(self, files: OwnFiles) -> None:
        fetcher = ImageFetcher(settings.Fetch(bytes_in_flight=len(DATA)), list, own=files)
        for _ in range(5):
            assert await fetcher.fetch(record()) == DATA
        await fetcher.close()

    @pytest.mark.parametrize("content", [b"", b"other bytes", DATA[:-1]])
    async def test_a_file_that_changed_is_damaged(self, files: OwnFiles, content: bytes) -> None:
        files.path(DIGEST).write_bytes(content)
        with pytest.raises(PermanentError) as raised:
            await self.fetched(files, record())
        assert raised.value.cause == ("image_truncated" if content else "not_found")

    async def test_a_file_that_is_gone_says_what_to_do(self, files: OwnFiles) -> None:
        files.path(DIGEST).unlink()
        with pytest.raises(PermanentError, match="add its folder again") as raised:
            await self.fetched(files, record())
        assert raised.value.cause == "not_found"

    async def test_a_link_that_names_no_content_leads_nowhere(self, files: OwnFiles) -> None:
        wanted = ImageRecord(own_id("x"), OWN, "http://x/files/../../secret", "", 1)
        with pytest.raises(PermanentError):
            await self.fetched(files, wanted)

    async def test_another_host_without_the_folder_leaves_it_to_a_later_attempt(self, tmp_path: Path) -> None:
        for files in (None, OwnFiles(tmp_path)):
            with pytest.raises(TransientError, match="share the folder files"):
                await self.fetched(files, record())

    async def test_the_byte_cap_counts(self, files: OwnFiles) -> None:
        with pytest.raises(PermanentError) as raised:
            await self.fetched(files, record(), max_bytes=3)
        assert raised.value.cause == "image_too_large"

    async def test_the_place_is_the_records_own(self) -> None:
        places = NodePlaces(settings.Monitor(), list)
        wanted = ImageRecord(own_id("x"), OWN, "x", "", 1, latitude=1.5, longitude=-2.5, project="flowers")
        assert await places.locate(wanted) == Place(1.5, -2.5, "flowers")
        await places.close()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "holiday"
        for name in ("b.jpg", "sea/a.jpg", "sea/far/c.jpg", ".hidden.jpg", ".trash/d.jpg"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode())
        return folder

    def test_files_come_in_order_with_their_folders_name_as_camera(self, folder: Path, tmp_path: Path) -> None:
        found = list(read_folder(folder, tmp_path / "files", quiet))
        assert [(file.name, file.camera) for file in found] == [
            ("b.jpg", "holiday"),
            ("sea/a.jpg", "sea"),
            ("sea/far/c.jpg", "far"),
        ]
        assert [file.size for file in found] == [5, 9, 13]

    def test_the_name_of_a_folder_given_as_a_dot_is_found(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        assert next(read_folder(Path(), tmp_path / "files", quiet)).camera == "holiday"

    def test_what_is_kept_is_not_read_as_a_folder_of_its_own(self, tmp_path: Path) -> None:
        OwnFiles(tmp_path).keep(DIGEST, DATA)
        (tmp_path / "a.jpg").write_bytes(DATA)
        assert [file.name for file in read_folder(tmp_path, tmp_path / "files", quiet)] == ["a.jpg"]

    def test_what_cannot_be_looked_at_is_told(self, folder: Path, tmp_path: Path) -> None:
        (folder / "lost.jpg").symlink_to("nowhere")
        told: list[tuple[str, str]] = []
        assert len(list(read_folder(folder, tmp_path / "files", lambda *words: told.append(words)))) == 3
        assert told == [("lost.jpg", "it cannot be read (no such file or directory)")]

    @pytest.mark.parametrize("what", ["nothing", "b.jpg"])
    def test_what_is_no_folder_is_refused(self, folder: Path, what: str) -> None:
        with pytest.raises(UsageError, match="not a folder that can be read"):
            list(read_folder(folder / what, folder, quiet))

    def test_names_of_any_bytes_are_read(self, folder: Path, tmp_path: Path) -> None:
        (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
        assert "\N{REPLACEMENT CHARACTER}.jpg" in [f.name for f in read_folder(folder, tmp_path / "files", quiet)]

    def test_a_file_that_was_read_is_known_wherever_its_folder_is_until_it_changes(
        self, folder: Path, tmp_path: Path
    ) -> None:
        known = KnownFiles(tmp_path / "files")
        first = list(read_folder(folder, tmp_path / "files", quiet))
        assert known.digests(first) == {}
        known.remember({file: f"digest of {file.name}" for file in first})
        moved = folder.rename(tmp_path / "elsewhere")
        again = list(read_folder(moved, tmp_path / "files", quiet))
        assert list(known.digests(again).values()) == [f"digest of {file.name}" for file in first]
        before = (moved / "b.jpg").stat()
        (moved / "b.jpg").write_bytes(b"other")  # of the same length, and its date is set back
        os.utime(moved / "b.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
        shutil.copy(moved / "sea" / "a.jpg", moved / "copy.jpg")
        changed = {file.name: file for file in read_folder(moved, tmp_path / "files", quiet)}
        found = known.digests([changed["b.jpg"], changed["copy.jpg"], changed["sea/a.jpg"]])
        assert list(found) == [changed["sea/a.jpg"].path]

    def test_a_memory_that_is_damaged_only_costs_time(self, folder: Path, tmp_path: Path) -> None:
        files = list(read_folder(folder, tmp_path / "files", quiet))
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "known.sqlite3").write_bytes(b"no database " * 100)
        known = KnownFiles(tmp_path / "files")
        known.remember({files[0]: "x"})
        assert known.digests(files) == {}


class TestTable:
    def table(self, tmp_path: Path, text: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def test_a_row_tells_all(self, tmp_path: Path) -> None:
        table = read_table(
            self.table(
                tmp_path,
                "filename,time,lat,lon,camera,node,project\n"
                "sea/a.jpg,2024-07-01T14:00:00.123456789+02:00,41.5,-87.25,left,W02F,flowers\n",
            )
        )
        row = table.row("sea/a.jpg")
        assert row is not None
        assert (row.ns, row.latitude, row.longitude) == (1_719_835_200_123_456_789, 41.5, -87.25)
        assert (row.camera, row.node, row.project) == ("left", "W02F", "flowers")
        assert (table.notes, table.unmatched(iter(["sea/a.jpg"]))) == ((), [])

    @pytest.mark.parametrize(
        "text",
        [
            "\ufefffilename,lat,lon\nsea/ä.jpg,1,2\n",
            "Filename ; LAT;lon\r\nsea/ä.jpg;1;2\r\n",
            'lat,lon,filename\n1,2,"sea/ä.jpg"',
            "filename,lat,lon\n.\\sea\\ä.jpg,1,2\n",
            unicodedata.normalize("NFD", "filename,lat,lon\nsea/ä.jpg,1,2\n"),
        ],
    )
    def test_what_spreadsheets_and_other_systems_write_is_understood(self, tmp_path: Path, text: str) -> None:
        row = read_table(self.table(tmp_path, text)).row("sea/ä.jpg")
        assert row is not None
        assert (row.latitude, row.longitude) == (1, 2)

    def test_every_problem_has_a_line_and_the_rest_counts(self, tmp_path: Path) -> None:
        table = read_table(
            self.table(
                tmp_path,
                "filename,time,lat,lon,weather\n"
                "a.jpg,2024-07-01T14:00:00,1,2,sunny\n"
                "b.jpg,,91,2,\n"
                "c.jpg,,1,,\n"
                "d.jpg,,nan,2,\n"
                "a.jpg,,,,\n"
                ",2024-07-01T14:00:00Z,,,\n"
                "\n"
                "e.jpg,9999-07-01T14:00:00Z,1,2,\n",
            )
        )
        notes = "\n".join(table.notes)
        for part in (
            "column 'weather' is unknown",
            "row 2 (a.jpg): time '2024-07-01T14:00:00' is not an ISO time with a zone",
            "row 3 (b.jpg): lat '91' is not a number from -90 to 90",
            "row 4 (c.jpg): a place needs both lat and lon",
            "row 5 (d.jpg): lat 'nan' is not a number",
            "row 6: a.jpg has a row already (row 2)",
            "row 7: it names no file",
            "row 9 (e.jpg): time '9999-07-01T14:00:00Z'",
        ):
            assert part in notes
        first = table.row("a.jpg")
        assert first is not None
        assert (first.ns, first.latitude) == (None, 1)
        assert table.unmatched(iter(["a.jpg", "b.jpg", "c.jpg", "e.jpg"])) == ["row 5: there is no file d.jpg"]

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "no column filename"),
            ("name,time\na.jpg,x\n", "no column filename"),
            ("filename,time,time\n", "a column twice: time"),
            (b"filename\n\xff\xfe.jpg\n", "not UTF-8"),
            ('filename\n"' + "x" * 200_000 + '"\n', "not a CSV"),
        ],
    )
    def test_what_is_no_table_is_refused(self, tmp_path: Path, text: str | bytes, why: str) -> None:
        with pytest.raises(UsageError, match=why):
            read_table(self.table(tmp_path, text))

    def test_a_table_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read"):
            read_table(tmp_path / "none.csv")


class TestSettling:
    """``now`` and ``clock`` go on by hand."""

    class Hands:
        clock = 1000.0
        now = 50_000.0

        def go_on(self, seconds: float) -> None:
            self.clock += seconds
            self.now += seconds

    @pytest.fixture
    def hands(self) -> TestSettling.Hands:
        return self.Hands()

    @pytest.fixture
    def settling(self, hands: TestSettling.Hands) -> Settling:
        return Settling(lambda: hands.clock, lambda: hands.now)

    def file(self, changed: float, size: int = 10, name: str = "a.jpg") -> FolderFile:
        return FolderFile(Path("/x") / name, name, "x", size, changed, 0, (1, 2, size, int(changed * 1e9)))

    def test_what_was_there_long_before_is_due_at_once_and_only_once(
        self, settling: Settling, hands: TestSettling.Hands
    ) -> None:
        file = self.file(hands.now - QUIET_SECONDS)
        assert settling.due([file]) == [file]
        settling.done([file])
        assert settling.due([file]) == []

    def test_what_grows_is_due_when_it_has_come_to_rest(self, settling: Settling, hands: TestSettling.Hands) -> None:
        for size in range(10, 15):
            assert settling.due([self.file(hands.now, size)]) == []
            hands.go_on(SETTLED_SECONDS - 0.5)
        still = self.file(hands.now, 99)
        assert settling.due([still]) == []
        hands.go_on(SETTLED_SECONDS)
        assert settling.due([still]) == [still]

    def test_a_clock_of_another_host_that_is_ahead_does_not_matter(
        self, settling: Settling, hands: TestSettling.Hands
    ) -> None:
        file = self.file(hands.now + 10_000)
        assert settling.due([file]) == []
        hands.go_on(SETTLED_SECONDS)
        assert settling.due([file]) == [file]

    def test_what_changes_again_is_due_again(self, settling: Settling, hands: TestSettling.Hands) -> None:
        file = self.file(hands.now - 100)
        settling.due([file])
        settling.done([file])
        hands.go_on(100)
        changed = self.file(hands.now - QUIET_SECONDS, 20)
        assert settling.due([changed]) == [changed]

    @pytest.mark.parametrize("name", ["a.jpg.part", "a.CRDOWNLOAD", "a.tmp"])
    def test_a_name_that_says_unfinished_is_never_due(
        self, settling: Settling, hands: TestSettling.Hands, name: str
    ) -> None:
        assert settling.due([self.file(hands.now - 1000, name=name)]) == []

    def test_what_is_cut_off_may_be_coming_for_a_minute(self, settling: Settling, hands: TestSettling.Hands) -> None:
        file = self.file(hands.now)
        settling.due([file])
        hands.go_on(COMING_SECONDS - 1)
        assert settling.may_be_coming(file)
        hands.go_on(1)
        assert not settling.may_be_coming(file)
