"""What people see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import click
import pytest

from commands import deep
from commands.moments import Moment
from commands.reindexing_shown import done_lines
from commands.shown import results_text, size_text, span_text
from job_system.deep_audit import Findings, Repaired
from ledger.reindexing import Reindex
from records import SearchResult


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    """Captions and names come from anywhere."""
    evil = SearchResult("id", 1.0, "a \x1b[2Jcat\n", (), "\x07name", "http://x/\x9b", "V", "n", "c", "now")
    text = results_text([evil])
    assert [character for character in text if not character.isprintable() and character != "\n"] == []
    assert text.count("\n") == 2


def test_times_are_turned_into_utc() -> None:
    moment = Moment().convert("2026-05-01T12:00:00+02:00", None, None)
    assert (moment.isoformat(), moment.tzinfo) == ("2026-05-01T10:00:00+00:00", UTC)
    assert Moment().convert("2026-05-01", None, None) == datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["soon", "9" * 5000 + "d", "999999999d", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        Moment().convert(text, None, None)


def test_a_deep_audit_shows_counts_some_ids_and_what_to_do() -> None:
    found = Findings(
        checked=9, searched=8, missing=[f"id-{number}" for number in range(150)], unread={"x": "x is away"}
    )
    since, until = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
    text = deep.deep_text(found, None, since, until)
    assert "9 landed images looked up" in text
    assert "missing: 150" in text
    assert ("id-99\n" in text, "id-100\n" in text, "and 50 more" in text) == (True, False, True)
    assert "not compared: x is away" in text
    assert "--repair" in text
    repaired = deep.deep_text(found, Repaired(("id-1",), {"id-2": "nobody has it"}), since, until)
    assert "queued 1 images again" in repaired
    assert "id-2 cannot be queued: nobody has it" in repaired


def test_sizes_and_spans_are_short() -> None:
    sizes = [size_text(size) for size in (0, 999, 1580, 1_160_000, 2.5e10, 3e13)]
    assert sizes == ["0 bytes", "999 bytes", "1.58 kB", "1.16 MB", "25 GB", "30 TB"]
    spans = [span_text(seconds) for seconds in (0.01, 0.154, 42, 600, 9000)]
    assert spans == ["less than 0.1 s", "0.154 s", "42 s", "10 min", "2.5 h"]


def test_a_reindex_that_switched_says_what_is_poorer_and_what_no_longer_fits() -> None:
    one = Reindex(2, "Own_v2", "Own", 1, "light", "1", "clip", "3", total=9, began=0.0, copied=9)
    plain_lines = done_lines(one, "clip", 0)
    assert [line.split(":")[0] for line in plain_lines] == ["switched", "Own stays as it was"]
    assert "of them" not in plain_lines[0]
    lines = done_lines(replace(one, of_thumbnails=4, of_captions=1), "clip", 2)
    assert "9 vectors by clip version 3, 4 of them of thumbnails, as the originals could not be had, 1 of" in lines[0]
    assert lines[-1].startswith("the thresholds of 2 standing searches are of light, and clip gives other scores")
