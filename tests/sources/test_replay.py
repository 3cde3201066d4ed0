"""The replay server: a folder's and a video's pictures as a live stream over a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

import settings
from errors import ConfigurationError, UsageError
from records import Page, image_id, parse_timestamp
from sources import ImageFetcher, NodePlaces, Poller
from sources.replay import ReplayNode, ReplayPicture, ReplayServer, load_folder, load_video
from tests.fixtures.sage import LocalSage

FETCH = settings.Fetch(timeout=10)
HOUR_NS = 3600 * 10**9


def poll(sage: LocalSage, sage_section: settings.Sage | None = None) -> Page:
    return Poller(sage_section or settings.Sage(), settings.Monitor(timeout=10)).poll(
        sage.local, time.time_ns() - HOUR_NS
    )


async def ask(sage: LocalSage, **body: Any) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(sage.local.query_url, json={"start": "-1h", **body}) as response,
    ):
        response.raise_for_status()
        return [json.loads(line) for line in (await response.text()).splitlines()]


@pytest.fixture
def some(photos: Path, tmp_path: Path) -> Path:
    """A small folder of pictures in two sub-folders."""
    for name in ("north/coffee.png", "north/rocket.jpg", "south/chelsea.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / Path(name).name, tmp_path / name)
    return tmp_path


class TestStream:
    def test_a_folder_becomes_image_records(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some, vsn="R007"), interval=0)
        page = poll(sage)
        assert [(record.filename, record.camera, record.vsn) for record in page.records] == [
            ("coffee.png", "north", "R007"),
            ("rocket.jpg", "north", "R007"),
            ("chelsea.png", "south", "R007"),
        ]
        assert {record.task for record in page.records} == {"imagesampler-replay"}
        assert page.skipped == ()
        assert all(abs(time.time_ns() - record.captured_ns) < 60 * 10**9 for record in page.records)

    async def test_every_picture_is_fetched_as_it_is(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        pictures = load_folder(some)
        sage = open_sage(pictures, interval=0)
        page = await Poller(settings.Sage(), settings.Monitor()).poll_async(sage.local, time.time_ns() - HOUR_NS)
        fetcher = ImageFetcher(FETCH, lambda: [sage.local])
        fetched = [await fetcher.fetch(record) for record in page.records]
        await fetcher.close()
        assert fetched == [picture.read() for picture in pictures]

    def test_ids_come_from_content_and_path_never_from_port_or_time(
        self, some: Path, open_sage: Callable[..., LocalSage]
    ) -> None:
        pictures = load_folder(some)
        first, second = (poll(open_sage(load_folder(some), interval=0, name=name)) for name in ("one", "two"))
        assert first.records[0].url != second.records[0].url
        assert first.records[0].timestamp != second.records[0].timestamp
        assert [record.id for record in first.records] == [record.id for record in second.records]
        assert [record.id for record in first.records] == [picture.id for picture in pictures]
        digest = hashlib.sha256((some / "north/coffee.png").read_bytes()).hexdigest()[:16]
        assert first.records[0].id == image_id("replay", f"{digest}/north/coffee.png")

    def test_a_moved_folder_has_the_same_ids_and_changed_content_another(self, some: Path, tmp_path: Path) -> None:
        before = {picture.filename: picture.id for picture in load_folder(some)}
        moved = tmp_path / "elsewhere"
        shutil.copytree(some / "north", moved / "north")
        (moved / "north" / "rocket.jpg").write_bytes(b"\xff\xd8\xff other")
        after = {picture.filename: picture.id for picture in load_folder(moved)}
        assert after["coffee.png"] == before["coffee.png"]
        assert after["rocket.jpg"] != before["rocket.jpg"]

    async def test_pictures_appear_one_after_another(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some), interval=6000, speed=2)
        (first,) = await ask(sage)
        assert sage.server.released() == 1
        started = parse_timestamp(first["timestamp"])
        assert sage.server.released(started + 3000 * 10**9) == 2
        assert sage.server.released(started + 10**15) == 3
        hidden = sage.url(f"/api/v1/data/replay/{load_folder(some)[1].identity}")
        async with aiohttp.ClientSession(headers={"Authorization": sage.authorization}) as session:
            async with session.get(first["value"]) as response:
                assert response.status == 200
            async with session.get(hidden) as response:
                assert response.status == 404, "what the stream has not shown is not there yet"

    def test_the_operators_task_filter_does_not_hide_a_replay(
        self, some: Path, open_sage: Callable[..., LocalSage]
    ) -> None:
        sage = open_sage(load_folder(some), interval=0)
        assert len(poll(sage, settings.Sage(task_filter="other-.*")).records) == 3

    def test_denied_nodes_are_denied_in_a_replay_too(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some, vsn="R007"), interval=0)
        page = poll(sage, settings.Sage(unallowed_nodes=("r007",)))
        assert [skipped.reason for skipped in page.skipped] == ["denied_node"] * 3

    async def test_names_of_any_bytes_are_served(self, photos: Path, tmp_path: Path) -> None:
        names = ["a b.png", "ü%2F?#&.png", "~x+y.png", "\udcff.png", "'\"<>.png"]
        for name in names:
            shutil.copy(photos / "page.png", tmp_path / name)
        pictures = load_folder(tmp_path)
        with LocalSage(pictures, interval=0) as sage:
            page = await Poller(settings.Sage(), settings.Monitor()).poll_async(sage.local, time.time_ns() - HOUR_NS)
            assert [record.id for record in page.records] == [picture.id for picture in pictures]
            fetcher = ImageFetcher(FETCH, lambda: [sage.local])
            for record in page.records:
                assert await fetcher.fetch(record) == (photos / "page.png").read_bytes()
            await fetcher.close()


class TestProtocol:
    async def test_the_storage_wants_the_login(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some), interval=0)
        url = (await ask(sage))[0]["value"]
        async with aiohttp.ClientSession() as session:
            for headers in ({}, {"Authorization": "Basic cmVwbGF5Og=="}, {"Authorization": "Bearer ü"}):
                async with session.get(url, headers=headers) as response:
                    assert response.status == 401

    def test_every_server_has_a_password_of_its_own_that_is_not_shown(self) -> None:
        one, other = ReplayServer([]).address, ReplayServer([]).address
        assert one.password != other.password
        assert len(one.password) > 20
        assert one.password not in repr(one)

    async def test_a_signed_address_is_worth_nothing_without_its_token(
        self, some: Path, open_sage: Callable[..., LocalSage]
    ) -> None:
        pictures = load_folder(some)
        sage = open_sage(pictures, interval=0, signed=True)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{sage.server.signed_url}/signed/{pictures[0].identity}?authz=guess") as response,
        ):
            assert response.status == 403

    @pytest.mark.parametrize(
        ("filters", "count"),
        [
            ({"task": "imagesampler-.*"}, 3),
            ({"task": "imagesampler"}, 0),
            ({"vsn": "R001", "filename": ".*\\.png"}, 2),
            ({"name": "upload"}, 3),
            ({"zone": "x"}, 0),
        ],
    )
    async def test_filters_are_regular_expressions_of_the_whole_value(
        self, some: Path, open_sage: Callable[..., LocalSage], filters: dict[str, str], count: int
    ) -> None:
        sage = open_sage(load_folder(some), interval=0)
        assert len(await ask(sage, filter=filters)) == count

    async def test_start_and_end_bound_the_answer(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some), interval=0)
        times = [record["timestamp"] for record in await ask(sage)]
        assert [r["timestamp"] for r in await ask(sage, start=times[1])] == times[1:]
        assert [r["timestamp"] for r in await ask(sage, end=times[1])] == times[:2]
        assert await ask(sage, end="-30m") == []

    async def test_head_and_tail_count_within_each_series(self, open_sage: Callable[..., LocalSage]) -> None:
        node = ReplayNode("R001", latitude=1, longitude=2, gps=True)
        sage = open_sage([ReplayPicture(b"a.jpg", "0" * 64, node, "c", lambda: b"")], interval=0)
        every = await ask(sage, filter={"name": "sys.gps.*"})
        assert len(every) >= 2
        for limit in ("head", "tail"):
            found = await ask(sage, filter={"name": "sys.gps.*"}, **{limit: 1})
            assert sorted(record["name"] for record in found) == ["sys.gps.lat", "sys.gps.lon"]

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'{"start": 3}', b'{"start": "x"}', b'{"start": "-1h", "filter": {"task": "("}}']
    )
    async def test_a_wrong_query_is_a_bad_request(self, open_sage: Callable[..., LocalSage], body: bytes) -> None:
        sage = open_sage()
        async with aiohttp.ClientSession() as session, session.post(sage.local.query_url, data=body) as response:
            assert response.status == 400

    async def test_the_answer_is_packed_only_for_who_accepts_it(
        self, some: Path, open_sage: Callable[..., LocalSage]
    ) -> None:
        sage = open_sage(load_folder(some), interval=0)
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            for encoding, packed in (("gzip", True), ("identity", False)):
                async with session.post(
                    sage.local.query_url, json={"start": "-1h"}, headers={"Accept-Encoding": encoding}
                ) as response:
                    assert (await response.read()).startswith(b"\x1f\x8b") is packed

    @pytest.mark.parametrize("gps", [True, False])
    async def test_a_nodes_place_is_told_by_its_receiver_or_by_its_manifest(
        self, open_sage: Callable[..., LocalSage], gps: bool
    ) -> None:
        node = ReplayNode("R001", project="P", address="A", latitude=48.8, longitude=2.3, gps=gps)
        sage = open_sage([ReplayPicture(b"a.jpg", "0" * 64, node, "c", lambda: b"")], interval=0)
        (record,) = (
            await Poller(settings.Sage(), settings.Monitor()).poll_async(sage.local, time.time_ns() - HOUR_NS)
        ).records
        places = NodePlaces(settings.Monitor(), lambda: [sage.local])
        place = await places.locate(record)
        await places.close()
        assert (place.latitude, place.longitude, place.project, place.address) == (48.8, 2.3, "P", "A")
        assert bool(await ask(sage, filter={"name": "sys.gps.lat"})) is gps

    async def test_a_taken_port_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
                await ReplayServer([]).start(port=port)

    async def test_a_picture_that_went_away_is_not_found(self, some: Path, open_sage: Callable[..., LocalSage]) -> None:
        sage = open_sage(load_folder(some), interval=0)
        shutil.rmtree(some / "north")
        async with (
            aiohttp.ClientSession(headers={"Authorization": sage.authorization}) as session,
            session.get((await ask(sage))[0]["value"]) as response,
        ):
            assert response.status == 404


class TestFolder:
    def test_pictures_are_known_by_content_or_suffix(self, photos: Path, tmp_path: Path) -> None:
        shutil.copy(photos / "page.png", tmp_path / "no-suffix")
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / ".hidden.png").write_bytes((photos / "page.png").read_bytes())
        (tmp_path / "x.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8 ")
        os.mkfifo(tmp_path / "pipe.jpg")
        assert [picture.filename for picture in load_folder(tmp_path)] == ["empty.jpg", "no-suffix", "x.webp"]

    def test_a_file_that_cannot_be_read_is_reported_and_left_out(self, some: Path) -> None:
        (some / "south" / "gone.jpg").symlink_to(some / "nowhere")
        told: list[str] = []
        assert len(load_folder(some, report=told.append)) == 3
        (line,) = told
        assert "gone.jpg" in line

    def test_a_folder_that_is_none_is_wrong_usage(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="nowhere"):
            load_folder(tmp_path / "nowhere")

    def test_ten_thousand_files_are_not_held_in_memory(self, tmp_path: Path) -> None:
        for number in range(10_000):
            (tmp_path / f"{number:05d}.jpg").write_bytes(b"\xff\xd8\xff" + number.to_bytes(4, "big") * 50)
        tracemalloc.start()
        pictures = load_folder(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len({picture.id for picture in pictures}) == 10_000
        assert peak < 20 * 2**20, f"{peak / 2**20:.0f} MiB"
        with LocalSage(pictures, interval=0) as sage:
            assert len(poll(sage).records) == 10_000


class TestVideo:
    def test_a_frame_every_so_many_seconds(self, video: Path) -> None:
        pictures = load_video(video, 2.0, vsn="R002")
        assert [picture.filename for picture in pictures] == [
            f"bikes-{second:06d}000.jpg" for second in range(0, 10, 2)
        ]
        assert {(picture.camera, picture.node.vsn) for picture in pictures} == {("bikes", "R002")}
        images = [Image.open(io.BytesIO(picture.read())) for picture in pictures]
        assert {(image.format, image.size) for image in images} == {("JPEG", (640, 272))}
        assert len({picture.read() for picture in pictures}) == 5

    def test_a_step_shorter_than_a_frame_gives_every_frame_once(self, video: Path) -> None:
        pictures = load_video(video, 0.01)
        assert len({picture.id for picture in pictures}) == len(pictures) == 250

    def test_frames_are_the_same_in_whatever_order_they_are_read(self, video: Path) -> None:
        forward = [picture.read() for picture in load_video(video, 0.5)]
        backward = [picture.read() for picture in reversed(load_video(video, 0.5))]
        assert forward == backward[::-1]

    def test_ids_of_frames_do_not_depend_on_where_the_video_is(self, video: Path, tmp_path: Path) -> None:
        shutil.copy(video, tmp_path / video.name)
        one, other = load_video(video, 1.0), load_video(tmp_path / video.name, 1.0)
        assert [picture.id for picture in one] == [picture.id for picture in other]

    async def test_frames_are_served_to_many_at_once(self, video: Path) -> None:
        pictures = load_video(video, 0.2)
        with LocalSage(pictures, interval=0) as sage:
            page = await Poller(settings.Sage(), settings.Monitor()).poll_async(sage.local, time.time_ns() - HOUR_NS)
            fetcher = ImageFetcher(FETCH, lambda: [sage.local])
            fetched = await asyncio.gather(*(fetcher.fetch(record) for record in page.records))
            await fetcher.close()
        assert fetched == [picture.read() for picture in pictures]

    @pytest.mark.parametrize("content", [b"", b"not a video", b"\0\0\0 ftypisom" + bytes(1000)])
    def test_a_file_that_is_no_video_is_wrong_usage(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "film.mp4").write_bytes(content)
        with pytest.raises(UsageError, match=r"film\.mp4 is not a video that can be read"):
            load_video(tmp_path / "film.mp4", 1.0)

    def test_a_picture_is_no_video(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="positive"):
            load_video(photos / "page.png", 0)
        with pytest.raises(UsageError, match="is not a video"):
            load_video(tmp_path / "nowhere.mp4", 1.0)
