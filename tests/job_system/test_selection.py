"""Settings choose what of the sources is taken: the rest is skipped before anything is queued, with its reason."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from errors import ConfigurationError
from job_system.monitor import poll_sources
from job_system.publish import publish_records
from job_system.selection import PlacesInMemory, Selector
from ledger import Ledger
from records import ImageRecord, Page
from sections import hours_of
from settings import Monitor, Sage, Selection, load
from sources import Poller
from tests.fixtures.redis import Valkey
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands
from tests.ledger.samples import make_record

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
#: 2026-07-01T03:30Z, which is 22:30 of the day before in Chicago.
NIGHT = 1_782_876_600 * SECOND


def taken(number: int = 0, **fields: Any) -> ImageRecord:
    return replace(make_record(number), captured_ns=NIGHT + number, **fields)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({}, ""),
        ({"nodes": ("w02f",)}, ""),
        ({"nodes": ("000048B02D15BDC2",)}, ""),
        ({"nodes": ("W0??",)}, ""),
        ({"nodes": ("V*", "R007")}, "other_node"),
        ({"cameras": ("bottom_*",)}, ""),
        ({"cameras": ("top_camera",)}, "other_camera"),
        ({"tasks": ("imagesampler-*",)}, ""),
        ({"tasks": ("motion",)}, "other_task"),
        ({"hours": ("3",)}, ""),
        ({"hours": ("22-4",)}, ""),
        ({"hours": ("6-19",)}, "other_hour"),
        ({"hours": ("22-23",), "zone": "America/Chicago"}, ""),
        ({"hours": ("3",), "zone": "America/Chicago"}, "other_hour"),
        ({"nodes": ("W02F",), "cameras": ("top_camera",)}, "other_camera"),
    ],
)
def test_an_image_is_left_out_for_the_first_setting_that_it_does_not_fit(chosen: dict[str, Any], reason: str) -> None:
    assert Selector(Selection(**chosen)).reason(taken()) == reason


@pytest.mark.parametrize(
    ("spans", "hours"), [((), ()), (("6-8", "12"), (6, 7, 8, 12)), (("22-1",), (22, 23, 0, 1)), (("5-5",), (5,))]
)
def test_spans_of_hours_count_both_ends_and_go_over_midnight(spans: tuple[str, ...], hours: tuple[int, ...]) -> None:
    assert hours_of(spans) == set(hours)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WEAVLOADER_SELECT_HOURS", "6-24", "'6-24' is no span of hours"),
        ("WEAVLOADER_SELECT_HOURS", "noon", "'noon' is no span of hours"),
        ("WEAVLOADER_SELECT_ZONE", "Mars/Olympus", "'Mars/Olympus' is no time zone"),
        ("WEAVLOADER_SELECT_MOST", "-1", "WEAVLOADER_SELECT_MOST"),
    ],
)
def test_a_setting_that_chooses_nothing_sensible_is_named(variable: str, value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({variable: value}, tmp_path / "none.toml")
    assert variable in str(caught.value)
    assert said in str(caught.value)


def test_of_an_hour_of_a_camera_the_first_ones_are_taken() -> None:
    records = [taken(3), taken(1), taken(2), taken(4, camera="top"), replace(taken(5), captured_ns=NIGHT + HOUR)]
    page = Page(tuple(records), (), NIGHT + HOUR)
    found = Selector(Selection(most_per_hour=2)).select(page, PlacesInMemory())
    assert [record.captured_ns for record in found.records] == [NIGHT + 1, NIGHT + 2, NIGHT + 4, NIGHT + HOUR]
    assert [(one.id, one.reason, one.camera) for one in found.skipped] == [
        (records[0].id, "over_hourly_limit", "bottom_camera")
    ]
    assert found.newest_ns == page.newest_ns


def test_who_has_a_place_keeps_it_and_others_get_what_is_left(ledger: Ledger) -> None:
    assert ledger.places([("hour", "a"), ("hour", "b"), ("other", "c")], 1, 60) == {0, 2}
    assert ledger.places([("hour", "b"), ("hour", "a"), ("other", "c")], 1, 60) == {1, 2}
    assert ledger.places([("hour", "b"), ("hour", "a")], 2, 60) == {0, 1}


def test_places_are_forgotten_after_a_while(ledger: Ledger, valkey: Valkey) -> None:
    ledger.places([("hour", "a")], 1, 60)
    (key,) = valkey.client.keys("weavloader:places:*")
    assert 0 < valkey.client.ttl(key) <= 60


@pytest.fixture
def sage() -> Iterator[LocalSage]:
    with LocalSage() as server:
        yield server


def one_round(ledger: Ledger, app: Celery, sage: LocalSage, section: Selection) -> dict[str, Any]:
    """A round of the monitor over one source with the real poller, ledger and queue."""
    monitor, selector = Monitor(timeout=5), Selector(section)
    poller = Poller(Sage(), monitor)
    places = partial(ledger.places, kept=60)
    found: dict[str, Any] = poll_sources(
        ledger,
        [sage.cloud],
        monitor,
        lambda address, start: asyncio.run(poller.poll_async(address, start)),
        partial(publish_records, app),
        lambda page: selector.select(page, places),
    )["sources"]["sage"]
    return found


def test_what_is_left_out_is_never_queued_and_counted_once(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    hour = (time.time_ns() - 60 * SECOND) // HOUR * HOUR  # one of which five seconds have passed
    for number in range(5):
        sage.upload(f"/{number}.jpg", hour + number * SECOND)
    section = Selection(most_per_hour=2)
    begin_before(ledger, hour)
    first = one_round(ledger, app, sage, section)
    assert (first["found"], first["new"], first["skipped"]) == (2, 2, 3)
    again = one_round(ledger, app, sage, section)
    assert (again["new"], again["skipped"]) == (0, 0)
    assert valkey.client.llen("image_processing") == 2
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.skipped, counts.difference) == (5, 2, 3, 0)


def begin_before(ledger: Ledger, ns: int) -> None:
    """Let the first round begin before this time."""
    for cursor in ("sage:first", "sage"):
        ledger.move_cursor(cursor, ns - 60 * SECOND)


def test_another_node_moves_the_cursor_and_queues_nothing(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    now = time.time_ns()
    sage.upload("/1.jpg", now - SECOND)
    found = one_round(ledger, app, sage, Selection(nodes=("R007",)))
    assert (found["found"], found["new"], found["skipped"]) == (0, 0, 1)
    assert ledger.cursor("sage") == now - SECOND
    assert valkey.client.llen("image_processing") == 0


def test_a_trial_tells_what_would_be_taken_and_changes_nothing(
    commands: Commands, sage: LocalSage, ledger: Ledger, valkey: Valkey
) -> None:
    now = time.time_ns()
    for number in range(4):
        sage.upload(f"/{number}.jpg", now - (number + 2) * HOUR)
    ledger.sources.register(sage.local, 3600)
    before = set(valkey.client.keys("*"))
    words = ("select", "--test", "--since", "24h", "--json")
    done = commands.run(sys.executable, "main.py", *words, WEAVLOADER_SELECT_MOST="1", WEAVLOADER_SELECT_CAMERAS="*")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["sources"].values()
    assert (found["found"], found["taken"], found["left_out"]) == (4, 4, {})
    done = commands.run(sys.executable, "main.py", *words, WEAVLOADER_SELECT_NODES="R007")
    (found,) = json.loads(done.stdout)["sources"].values()
    assert (found["taken"], found["left_out"]) == (0, {"other_node": 4})
    assert set(valkey.client.keys("*")) == before


def test_the_choice_is_shown_in_words(commands: Commands) -> None:
    chosen = {"WEAVLOADER_SELECT_NODES": "W*,V033", "WEAVLOADER_SELECT_HOURS": "6-19", "WEAVLOADER_SELECT_MOST": "4"}
    done = commands.run(sys.executable, "main.py", "select", **chosen)
    assert done.stdout.splitlines() == [
        "nodes: W*, V033",
        "cameras: all",
        "tasks: all",
        "hours: 6-19 (UTC)",
        "pictures: at most 4 of a camera and hour",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--since", "1h"), "are for --test"), (("--test", "--since", "1h", "--until", "2h"), "turn them round")],
)
def test_a_range_that_makes_no_sense_is_refused(commands: Commands, words: tuple[str, ...], said: str) -> None:
    done = commands.run(sys.executable, "main.py", "select", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
