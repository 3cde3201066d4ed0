"""`watch`: wrong words are named, each with the code for it, before anything is kept; what is tried is counted."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
import pytest

from commands.moments import Span
from commands.standing_shown import state_line
from commands.trying import Tried
from errors import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_USAGE, ConfigurationError, WeavloaderError
from ledger import Ledger, Watch
from main import cli
from records import Hit, Made, ModelIdentity, SearchResult, StoredImage
from sources.webhooks import new_secret
from tests.fixtures.redis import Valkey

URL = ("--webhook", "https://hooks.invalid/x")
GOOD = ("--threshold", "0.2", *URL)
MADE = Made(np.array([1, 0], np.float32), ModelIdentity("light", "1"))


def watch_of(name: str, **changes: object) -> Watch:
    fixed = {"query": "a dog", "threshold": 0.5, "made": MADE, **changes}
    return Watch(name, str(uuid.uuid4()), "https://hooks.example/token", "/s", 0.0, **fixed)  # type: ignore[arg-type]


@pytest.fixture
def there(ledger: Ledger, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """An installation with a watch `there` and one of `alerts`; nobody answers as its model server."""
    for name, value in (("CELERY_BROKER_URL", valkey.url), ("WEAVLOADER_DATA_DIR", str(tmp_path / "data"))):
        monkeypatch.setenv(name, value)
    for name in ("TRITON_HOST", "WEAVIATE_HOST"):
        monkeypatch.setenv(name, "127.0.0.1")
    assert ledger.watches.add(watch_of("there")) == "added"
    assert ledger.watches.add(watch_of("alerts", query="", made=None)) == "added"
    return ledger


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("add", "x", "a", "--threshold", "1.5", *URL), EXIT_USAGE, "1.5"),
        (("add", "x", "a", "--threshold", "0", *URL), EXIT_USAGE, "0"),
        (("add", "x", "a", "--threshold", "nan", *URL), EXIT_USAGE, "nan"),
        (("add", "x", "a", *URL), EXIT_USAGE, "--threshold"),
        (("add", "x", *GOOD), EXIT_USAGE, "query"),
        (("add", "x", " ", *GOOD), EXIT_USAGE, "query"),
        (("add", "x", "a" * 2001, *GOOD), EXIT_USAGE, "2000"),
        (("add", "X Y", "a", *GOOD), EXIT_USAGE, "X Y"),
        (("add", "../x", "a", *GOOD), EXIT_USAGE, "../x"),
        (("add", "x", "a", "--alerts", *URL), EXIT_USAGE, "--alerts"),
        (("add", "x", "--alerts", "--camera", "top", *URL), EXIT_USAGE, "--alerts"),
        (("add", "x", "a", "--threshold", "0.2"), EXIT_USAGE, "webhook"),
        (("add", "x", "a", "--threshold", "0.2", "--webhook", "not a url"), EXIT_USAGE, "https://"),
        (("add", "x", "a", "--threshold", "0.2", "--webhook", "ftp://h/x"), EXIT_USAGE, "https://"),
        (("add", "x", "a", "--threshold", "0.2", "--webhook", "http://10.0.0.1/x"), EXIT_USAGE, "WEBHOOK_HOSTS"),
        (("add", "x", "a", "--threshold", "0.2", "--webhook", "http://localhost:1/x"), EXIT_USAGE, "WEBHOOK_HOSTS"),
        (("add", "x", "a", "--cooldown", "soon", *GOOD), EXIT_USAGE, "soon"),
        (("add", "x", "a", "--secret-file", "/nowhere", *GOOD), EXIT_CONFIGURATION, "/nowhere"),
        (("add", "there", "a", *GOOD), EXIT_USAGE, "there"),
        (("show", "nobody"), EXIT_FAILED, "nobody"),
        (("remove", "nobody"), EXIT_FAILED, "nobody"),
        (("pause", "nobody"), EXIT_FAILED, "nobody"),
        (("resume", "nobody"), EXIT_FAILED, "nobody"),
        (("test", "nobody"), EXIT_FAILED, "nobody"),
        (("test", "alerts"), EXIT_USAGE, "alerts"),
        (("test",), EXIT_USAGE, "--query"),
        (("test", "there", "--query", "x"), EXIT_USAGE, "--query"),
        (("dead", "list", "nobody"), EXIT_FAILED, "nobody"),
        (("dead", "replay"), EXIT_USAGE, "--all"),
        (("dead", "replay", "msg_none"), EXIT_FAILED, "msg_none"),
        (("dead", "discard", "--all"), EXIT_USAGE, "--yes"),
    ],
)
def test_wrong_words_are_named_and_change_nothing(
    there: Ledger, tmp_path: Path, words: tuple[str, ...], code: int, named: str
) -> None:
    with pytest.raises((WeavloaderError, click.ClickException)) as caught:
        cli.main(["watch", *words], standalone_mode=False)
    message = caught.value.format_message() if isinstance(caught.value, click.ClickException) else str(caught.value)
    assert (caught.value.exit_code, "\n" in message) == (code, False)
    assert named in message
    assert [state.watch.name for state in there.watches.states()] == ["alerts", "there"]
    assert not (tmp_path / "data" / "watches").exists()


def test_a_list_tells_how_each_watch_is_and_no_receivers_path(
    there: Ledger, valkey: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    valkey.client.hset("weavloader:watch:told:there", mapping={"matches": 3, "delivered": 1, "cooldown": 2})
    valkey.client.hset("weavloader:watch:overflow", mapping={"count": 7, "since": 0, "until": 60})
    cli.main(["watch", "list"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "3 found, 1 delivered, 2 cooled down, 0 waiting, 0 dead" in said
    assert "token" not in said
    cli.main(["watch", "pause", "there"], standalone_mode=False)
    state = there.watches.states()[1]
    assert state_line(state).startswith("there  paused  'a dog' from 0.5 on")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0", 0)])
def test_a_span_is_said_in_words(text: str, seconds: float) -> None:
    assert Span().convert(text, None, None) == seconds


def picture(score: float, minute: float, camera: str = "top", model: str = "light") -> StoredImage:
    vector = np.array([score, (1 - score**2) ** 0.5], np.float32)
    result = SearchResult(str(uuid.uuid4()), 1.0, "it", (), "a.jpg", "https://x", "W1", "1", camera, "")
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    return StoredImage(Hit(result, vector=vector, embedding_model=model), moment)


def test_what_is_tried_is_counted_as_it_would_have_been_posted() -> None:
    watch, tried = watch_of("w", cooldown=600.0), Tried()
    shown = [
        *(picture(0.9, 0), picture(0.8, 9), picture(0.7, 10), picture(0.6, 11, camera="other")),
        *(picture(0.1, 12), picture(0.99, 13, model="another")),
    ]
    for image in shown:
        tried.count(watch, image, 2)
    assert (tried.compared, tried.not_comparable, tried.matched, tried.posted) == (5, 1, 4, 3)
    assert [round(result.score, 2) for result in tried.best] == [0.9, 0.8]
    assert sum(count for _, count in tried.bars()) == 5


def test_the_histogram_is_one_line_with_the_threshold_in_it() -> None:
    watch, tried = watch_of("w"), Tried()
    for score in (0.1, 0.1, 0.1, 0.13, 0.19):
        tried.count(replace(watch, threshold=0.15), picture(score, 0), 1)
    line = tried.line(0.15)
    assert line.startswith("scores 0.1")
    assert line.count("|") == 2, "the threshold, and what it is"
    assert "█" in line
    assert "\n" not in line
    assert Tried().line(0.15) == ""


def test_a_dry_run_tells_that_no_cleaner_would_read_the_secret_unless_it_is_a_file_of_ones_own(
    there: Ledger, tmp_path: Path
) -> None:
    there.watches.note_folder("another host's")
    file = tmp_path / "secret"
    file.write_text(new_secret())
    words = ["watch", "add", "x", "--alerts", "--webhook", "https://8.8.8.8/x", "--dry-run"]
    with pytest.raises(ConfigurationError, match="cannot be read by the cleaner"):
        cli.main(words, standalone_mode=False)
    cli.main([*words, "--secret-file", str(file)], standalone_mode=False)
    assert not (tmp_path / "data" / "watches").exists()
