"""``top``: what its screen and its lines show is what the ledger and the store hold, and its key replays."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from textual.pilot import Pilot
from textual.widgets import Sparkline, Static

from client import WeaviateStore
from commands.live_view import Ask, LiveView, Table
from commands.watch import Watch
from job_system.celery_config import configuration
from job_system.publish import publish_records
from ledger import Ledger
from records import Calibration, ModelIdentity
from sections import Jobs, Paths
from settings import Settings, Weaviate
from tests.fixtures.house import ROOT
from tests.fixtures.redis import Valkey, free_port, running_valkey
from tests.fixtures.workers import Commands
from tests.ledger.samples import bury, make_record, make_records, take
from tests.store.images import image

SIZE = (80, 24)


@pytest.fixture
def app(jobs_settings: Jobs) -> Iterator[Celery]:
    """What sends messages to the test's broker."""
    made = Celery("test", set_as_current=False)
    made.conf.update(configuration(Settings(jobs=jobs_settings)))
    yield made
    made.close()


@asynccontextmanager
async def screen(settings: Settings, app: Celery, interval: float = 0.05) -> AsyncIterator[Pilot[None]]:
    """The live view in a terminal of the usual size."""
    view = LiveView(Watch(settings, partial(publish_records, app)), interval)
    async with view.run_test(size=SIZE) as pilot:
        yield pilot


def settings_of(jobs: Jobs, store: Weaviate, data: Path) -> Settings:
    return Settings(paths=Paths(data=data), jobs=jobs, weaviate=store)


async def shows(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the screen is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, pilot.app.export_screenshot()
        await pilot.pause(0.02)


def text(pilot: Pilot[None], selector: str) -> str:
    """What a line or several show."""
    return str(pilot.app.screen_stack[0].query_one(selector, Static).content)


def rows(pilot: Pilot[None], selector: str) -> list[list[str]]:
    """What a table shows."""
    table = pilot.app.screen_stack[0].query_one(selector, Table)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


async def land(store: Weaviate, ledger: Ledger, *captions: str, first: int = 0) -> None:
    """Images that land in the store and the ledger, one after another."""
    opened = WeaviateStore(store)
    for number, caption in enumerate(captions, first):
        one = image(number, caption=caption, vsn=f"W{number:03}")
        await opened.land(one)
        assert ledger.land(take(ledger, one.record))
    await opened.close()


async def test_the_screen_shows_what_landed_and_where_everything_is(
    collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> None:
    await land(collection, ledger, "a red car", "[bold]two \x1b[2Jcats")
    ledger.record(make_records(3))
    take(ledger, make_record(0))
    bury(ledger, make_record(7), "not_found")
    ledger.beat("processor@host:1", 60)
    async with screen(settings_of(jobs_settings, collection, tmp_path), app) as pilot:
        await shows(pilot, lambda: len(rows(pilot, "#landings")) == 2)
        assert [row[1:] for row in rows(pilot, "#landings")] == [
            ["W001", "[bold]two \N{REPLACEMENT CHARACTER}[2Jcats"],
            ["W000", "a red car"],
        ]
        assert "pending 2   leased 1   landed 2   dead 1   skipped 0   seen 6" in text(pilot, "#figures")
        assert "image_processing 0" in text(pilot, "#figures")
        assert text(pilot, "#figures").startswith("0.")
        assert max(pilot.app.query_one(Sparkline).data or ()) > 0
        parts = {row[0]: row[1:] for row in rows(pilot, "#parts") if row[1] != "lives"}
        assert (parts["redis"][0], parts["weaviate"][0], parts["triton"][0]) == ("ok", "ok", "DOWN")
        assert "TRITON_HOST" in parts["triton"][1]
        (process,) = [row for row in rows(pilot, "#parts") if row[1] == "lives"]
        assert (process[0], process[2].endswith(" s left, host:1")) == ("processor", True)
        assert rows(pilot, "#parts")[0][1] == "DOWN"
        assert rows(pilot, "#letters") == [["not_found", "1"]]
        await land(collection, ledger, "a third", first=2)
        await shows(pilot, lambda: rows(pilot, "#landings")[0][2] == "a third")


def calibrated(rate: float) -> Calibration:
    models = ModelIdentity("light_captioner", "1"), ModelIdentity("light_embedder", "1")
    return Calibration(rate, 16, *models, text=True, when=1_764_000_000.0)


async def test_the_screen_tells_the_efficiency_once_the_models_are_calibrated(
    collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> None:
    """Three landings in the last minute of a ceiling of 0.1 a second are half of what the models could give."""
    await land(collection, ledger, "one", "two", "three")
    async with screen(settings_of(jobs_settings, collection, tmp_path), app) as pilot:
        await shows(pilot, lambda: "3 a minute   efficiency -   at models -   " in text(pilot, "#figures"))
        ledger.keep_calibration(calibrated(0.1))
        await shows(pilot, lambda: "efficiency 50%" in text(pilot, "#figures"))


async def test_all_of_it_fits_a_terminal_of_80_by_24_with_its_keys(
    collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> None:
    await land(collection, ledger, "a red car")
    bury(ledger, make_record(7), "not_found")
    async with screen(settings_of(jobs_settings, collection, tmp_path), app) as pilot:
        await shows(pilot, lambda: rows(pilot, "#landings"))
        for widget in ("#figures", "#pace", "#parts", "#landings", "#letters", "#said", "Footer"):
            place = pilot.app.query_one(widget).region
            assert (place.width > 0, place.height > 0) == (True, True), widget
            assert (place.right <= SIZE[0], place.bottom <= SIZE[1]) == (True, True), widget
        seen = pilot.app.export_screenshot().replace("&#160;", " ")
        for words in ("Quit", "Replay", "not_found", "a red car"):
            assert words in seen


async def test_whoever_is_cancelled_again_while_it_leaves_leaves_no_connection_behind(
    collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> None:
    """The SDK warns of a connection that only the garbage collector finds, and warnings are errors."""
    await land(collection, ledger, "a red car")
    looked = asyncio.Event()

    async def look() -> None:
        async with Watch(settings_of(jobs_settings, collection, tmp_path), partial(publish_records, app)) as watch:
            await watch.look()
            looked.set()
            await asyncio.Event().wait()

    looking = asyncio.create_task(look())
    await looked.wait()
    looking.cancel()
    while not looking.done():
        await asyncio.sleep(0)
        looking.cancel()
    del looking
    gc.collect()


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 1)])
async def test_the_key_replays_a_cause_after_it_has_asked(
    collection: Weaviate,
    ledger: Ledger,
    jobs_settings: Jobs,
    app: Celery,
    valkey: Valkey,
    tmp_path: Path,
    answer: str,
    left: int,
) -> None:
    for number in range(2):
        bury(ledger, make_record(number), "not_found")
    bury(ledger, make_record(2), "poison")
    async with screen(settings_of(jobs_settings, collection, tmp_path), app) as pilot:
        await shows(pilot, lambda: rows(pilot, "#letters") == [["not_found", "2"], ["poison", "1"]])
        await pilot.press("r")
        await shows(pilot, lambda: isinstance(pilot.app.screen, Ask))
        question = str(pilot.app.screen.query_one("#question", Static).content)
        assert question == "Queue the images of all 2 dead letters of the cause not_found again?"
        assert ledger.letters.count() == 3
        await pilot.press(answer)
        await shows(pilot, lambda: len(rows(pilot, "#letters")) == (2 if left == 3 else 1))
        if answer == "y":
            await shows(pilot, lambda: text(pilot, "#said") == "queued 2 images again")
    assert ledger.letters.count() == left
    assert ledger.audit().pending == valkey.client.llen("image_processing") == 3 - left


async def test_one_letter_of_an_opened_cause_is_replayed(
    collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, app: Celery, valkey: Valkey, tmp_path: Path
) -> None:
    for number in range(3):
        bury(ledger, make_record(number), "not_found", when=time.time() - number)
    async with screen(settings_of(jobs_settings, collection, tmp_path), app) as pilot:
        await shows(pilot, lambda: rows(pilot, "#letters"))
        await pilot.press("enter")
        await shows(pilot, lambda: len(rows(pilot, "#letters")) == 3)
        assert rows(pilot, "#letters")[0][1:] == ["1x", "the image answers not_found"]
        await pilot.press("down", "r", "y")
        await shows(pilot, lambda: text(pilot, "#said") == "queued 1 images again")
        await shows(pilot, lambda: len(rows(pilot, "#letters")) == 2)
        await pilot.press("escape")
        await shows(pilot, lambda: rows(pilot, "#letters") == [["not_found", "2"]])
    kept = {letter.task_id for letter in ledger.letters.list()}
    assert kept == {make_record(0).id, make_record(2).id}
    assert valkey.client.llen("image_processing") == 1


async def test_a_broker_that_goes_away_is_told_in_one_line_until_it_is_back(
    collection: Weaviate, tmp_path: Path
) -> None:
    port = free_port()
    jobs = Jobs(broker_url=f"redis://127.0.0.1:{port}/0")
    with ExitStack() as first, Ledger(jobs) as ledger:
        first.enter_context(running_valkey(tmp_path / "valkey", port=port))
        ledger.record(make_records(2))
        made = Celery("test", set_as_current=False)
        async with screen(settings_of(jobs, collection, tmp_path), made) as pilot:
            await shows(pilot, lambda: "pending 2" in text(pilot, "#figures"))
            await asyncio.to_thread(first.close)
            await shows(pilot, lambda: str(port) in text(pilot, "#said"))
            assert "\n" not in text(pilot, "#said")
            with running_valkey(tmp_path / "valkey", port=port):
                await shows(pilot, lambda: not text(pilot, "#said") and "pending 2" in text(pilot, "#figures"))


async def test_a_store_that_is_away_costs_the_captions_only(
    ledger: Ledger, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> None:
    assert ledger.land(take(ledger, make_record(1)))
    away = Weaviate(host="127.0.0.1", port=free_port(), grpc_port=free_port(), timeout=2)
    async with screen(settings_of(jobs_settings, away, tmp_path), app) as pilot:
        await shows(pilot, lambda: str(away.http_port) in text(pilot, "#said"))
        assert "landed 1" in text(pilot, "#figures")


def top(commands: Commands, *words: str) -> subprocess.CompletedProcess[str]:
    return commands.run(sys.executable, "main.py", "top", *words, seconds=60)


def of(store: Weaviate) -> dict[str, str]:
    """The settings by which a command finds the store."""
    return {
        "WEAVIATE_PORT": str(store.http_port),
        "WEAVIATE_GRPC_PORT": str(store.grpc_port),
        "WEAVIATE_API_KEY": store.api_key,
        "WEAVLOADER_COLLECTION": store.collection,
        "TRITON_PORT": "1",
    }


async def test_without_a_terminal_one_line_tells_it(commands: Commands, collection: Weaviate, ledger: Ledger) -> None:
    await land(collection, ledger, "a red car")
    bury(ledger, make_record(7), "not_found")
    ledger.keep_calibration(calibrated(1 / 60))
    commands.environment |= of(collection)
    done = await asyncio.to_thread(top, commands, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    for words in ("landed 1, dead 1", "dead by cause not_found 1", "image_processing 0", "images/s", "down: triton"):
        assert words in line
    assert "efficiency 1.00" in line


async def test_json_is_one_object_a_line(
    commands: Commands, collection: Weaviate, ledger: Ledger, valkey: Valkey
) -> None:
    await land(collection, ledger, "a red car")
    # the pace is that of the last ten seconds, and a busy machine takes as long to start the command
    entry = valkey.client.lindex("weavloader:landed:recent", 0)
    valkey.client.lset("weavloader:landed:recent", 0, f"{entry.partition(' ')[0]} {time.time() + 60}")
    ledger.keep_calibration(calibrated(1 / 30))
    commands.environment |= of(collection)
    done = await asyncio.to_thread(top, commands, "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["audit"] == {**ledger.audit().to_json()}
    assert [(one["vsn"], one["caption"]) for one in found["landings"]] == [("W000", "a red car")]
    assert found["queues"] == {"image_processing": 0, "data_monitoring": 0, "cleanup": 0}
    assert (found["error"], found["parts"]["redis"]["ok"], found["images_per_second"] > 0) == ("", True, True)
    assert (found["landed_per_minute"], found["efficiency"], found["models_share"]) == (1, pytest.approx(0.5), None)
    assert found["ceiling"]["images_per_second"] == pytest.approx(1 / 30)


def test_lines_go_on_until_ctrl_c(commands: Commands, collection: Weaviate, ledger: Ledger) -> None:
    process = commands.start(sys.executable, "main.py", "top", "--interval", "0.2", **of(collection))
    process.says("landed 0", 60)
    ledger.land(take(ledger, make_record(1)))
    process.says("landed 1")
    assert process.stop(signal.SIGINT) == 0
    assert len(process.output().splitlines()) >= 2
    assert all("images/s" in line for line in process.output().splitlines())


def test_a_broker_that_is_away_is_one_line_and_exit_code_3(brokerless: Commands) -> None:
    port = free_port()
    brokerless.environment["CELERY_BROKER_URL"] = f"redis://:a-secret-word@127.0.0.1:{port}/0"
    done = top(brokerless, "--once")
    assert (done.returncode, len(done.stdout.splitlines())) == (3, 1), done.stdout + done.stderr
    assert str(port) in done.stdout
    assert "a-secret-word" not in done.stdout + done.stderr


def test_without_a_broker_it_says_what_to_do(brokerless: Commands) -> None:
    done = top(brokerless)
    assert (done.returncode, done.stdout) == (4, "")
    assert "python main.py up" in done.stderr


def test_help_says_how_it_ends() -> None:
    done = subprocess.run(
        [sys.executable, "main.py", "top", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "until Ctrl-C" in " ".join(done.stdout.split())
