"""Alert rules as signed webhooks: a real Prometheus fires, a real cleaner posts, and it is told when it is over."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from job_system.turns import Turns
from ledger import Ledger
from sections import Jobs, Webhooks
from settings import Settings
from sources.alerts import firing_alerts
from sources.webhooks import WebhookPoster
from tests.fixtures.house import eventually, free_ports
from tests.fixtures.prometheus import Prometheus
from tests.fixtures.webhooks import Receiver
from tests.fixtures.workers import Commands

pytestmark = pytest.mark.debian("prometheus")

RULE = {
    "alert": "WeavloaderEndpointDown",
    "expr": 'min by (instance) (up{job="weavloader"}) == 0',
    "labels": {"severity": "critical"},
    "annotations": {"summary": "the metrics endpoint {{ $labels.instance }} does not answer"},
}


@dataclass
class Watcher:
    """A Prometheus with one alert rule, which fires while nothing listens on a port."""

    prometheus: Prometheus
    port: int


@contextmanager
def endpoint(port: int) -> Iterator[None]:
    """A metrics endpoint without a number in it, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def watcher(scraping: Callable[..., Prometheus]) -> Watcher:
    """A real Prometheus whose alert fires."""
    (watched,) = free_ports(1)
    prometheus = scraping(watched, RULE)
    eventually(prometheus.firing, 30)
    return Watcher(prometheus, watched)


def added(commands: Commands, receiver: Receiver) -> str:
    """`watch add news --alerts`; its secret."""
    words = ("watch", "add", "news", "--alerts", "--webhook", receiver.url, "--json")
    done = commands.run(sys.executable, "main.py", *words, WEAVLOADER_WEBHOOK_HOSTS=receiver.host)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["secret"])


def test_a_rule_that_fires_goes_out_as_a_signed_webhook(
    watcher: Watcher, commands: Commands, receiver: Receiver
) -> None:
    secret = added(commands, receiver)
    address = watcher.prometheus.address
    commands.role("run_cleaner", WEAVLOADER_PROMETHEUS_URL=address, WEAVLOADER_WEBHOOK_HOSTS=receiver.host)
    (posted,) = eventually(lambda: list(receiver.seen), 90)
    assert posted.is_signed_with(secret)
    told = posted.told
    assert (told["type"], told["watch"], told["alert"], told["severity"]) == (
        *("alert.firing", "news"),
        *("WeavloaderEndpointDown", "critical"),
    )
    assert told["annotations"]["summary"] == f"the metrics endpoint 127.0.0.1:{watcher.port} does not answer"
    done = commands.run(sys.executable, "main.py", "watch", "show", "news", "--json")
    assert json.loads(done.stdout)["counts"]["matches"] == 1


def test_it_is_told_once_that_it_is_over(
    watcher: Watcher, commands: Commands, receiver: Receiver, ledger: Ledger, jobs_settings: Jobs
) -> None:
    secret = added(commands, receiver)
    settings = Settings(jobs=jobs_settings, webhooks=Webhooks(hosts=(receiver.host,)))
    with asyncio.Runner() as runner:
        poster = WebhookPoster(settings.webhooks)
        ask = partial(firing_alerts, watcher.prometheus.address)
        turns = Turns(settings, ledger, None, poster, ask, runner.run)  # type: ignore[arg-type] # no pictures
        turns._alerting._every = 0.0

        def told(count: int) -> list[str]:
            turns.take()
            return [seen.told["type"] for seen in receiver.seen] if len(receiver.seen) >= count else []

        assert eventually(lambda: told(1), 20) == ["alert.firing"]
        with endpoint(watcher.port):
            eventually(lambda: not watcher.prometheus.firing(), 20)
            assert eventually(lambda: told(2), 20) == ["alert.firing", "alert.resolved"]
        runner.run(poster.close())
    first, last = receiver.seen
    assert first.is_signed_with(secret)
    assert last.is_signed_with(secret)
    assert first.id != last.id
    assert first.told["labels"] == last.told["labels"]
