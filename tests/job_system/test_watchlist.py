"""The list of standing searches: what is wrong with a new one is told without what may be secret of it, and a watch
has its secret, whatever answer is lost.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import PartUnavailable, UsageError, WeavloaderError
from job_system import watchlist
from job_system.watchlist import Taken, Wanted
from ledger import Ledger, Watch
from ledger.watches import Watches
from sections import Webhooks
from sources.webhooks import key_of, read_secret

ALERTS = Wanted("news", "https://8.8.8.8/x")
LOST = PartUnavailable("redis", "the answer is lost")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/token",
        "http://10.0.0.1/token?key=token",
        "https://token:token@8.8.8.8/",
        "https://hooks.example:token/",
        "https://[token/",
        "token",
    ],
)
async def test_a_webhook_that_cannot_be_used_is_told_by_its_host_at_most(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        await watchlist.check_webhook(Webhooks(), url)
    assert str(caught.value).startswith("the webhook cannot be used: ")
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("error", [LOST, Taken("its own request was sent again")])
def test_a_watch_that_was_added_though_the_answer_was_lost_has_its_secret(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: WeavloaderError
) -> None:
    add = Watches.add

    def lost(self: Watches, watch: Watch) -> str:
        add(self, watch)
        raise error

    monkeypatch.setattr(Watches, "add", lost)
    one = watchlist.new_watch(ALERTS, None, tmp_path)
    secret = watchlist.begin(ledger, one, tmp_path)
    assert read_secret(Path(one.secret_file)) == key_of(secret)


def test_a_watch_that_could_not_be_added_leaves_no_secret(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Watches, watch: Watch) -> str:
        raise LOST

    monkeypatch.setattr(Watches, "add", away)
    with pytest.raises(PartUnavailable):
        watchlist.begin(ledger, watchlist.new_watch(ALERTS, None, tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_stays_while_nobody_can_tell_whether_its_watch_was_added(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Watches, *_: object) -> str:
        raise LOST

    for name in ("add", "get"):
        monkeypatch.setattr(Watches, name, away)
    one = watchlist.new_watch(ALERTS, None, tmp_path)
    with pytest.raises(PartUnavailable):
        watchlist.begin(ledger, one, tmp_path)
    assert Path(one.secret_file).exists()
