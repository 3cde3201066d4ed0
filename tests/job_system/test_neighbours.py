"""Who else uses the broker's database: another Celery app and another installation are refused, nobody else is."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
import redis
from celery import Celery

from errors import ConfigurationError
from job_system import neighbours
from job_system.neighbours import Membership, identity
from ledger import Ledger, Node
from settings import Jobs, Settings, Weaviate
from tests.fixtures.redis import Valkey, free_port, running_valkey, wait_until
from tests.fixtures.workers import Commands, Process

CELERY = str(Path(sys.executable).with_name("celery"))
FOREIGN = "tests.job_system.foreign_app"
LEFT_QUEUE = "_kombu.binding.celery"
ALLOWED = {"WEAVLOADER_ALLOW_SHARED_REDIS": "true"}


def foreign_worker(commands: Commands, **extra: str) -> Process:
    worker = commands.celery(FOREIGN, "worker", "--pool=threads", "--concurrency=2", "-n", "till@%h", "-lINFO", **extra)
    worker.says("ready.")
    return worker


def sell(commands: Commands, seconds: float, **extra: str) -> None:
    code = f"from {FOREIGN} import sell; sell.delay({seconds})"
    assert commands.run(sys.executable, "-c", code, **extra).returncode == 0


def refusal(commands: Commands, **extra: str) -> str:
    """The one line with which a worker does not start."""
    done = commands.run(CELERY, "-A", "job_system", "--quiet", "worker", **extra)
    assert done.returncode == 4, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: Redis at 127.0.0.1:")
    assert lines[0].endswith("or set WEAVLOADER_ALLOW_SHARED_REDIS=true")
    return lines[0]


def started(commands: Commands, *words: str, **extra: str) -> Process:
    worker = commands.celery("job_system", "worker", *words, **extra)
    worker.says("worker ready")
    return worker


def starts(commands: Commands, *words: str, **extra: str) -> str:
    """What a worker that starts says until it has stopped."""
    worker = started(commands, *words, **extra)
    assert worker.stop() == 0
    return worker.output()


def doctors_line(commands: Commands, **extra: str) -> str:
    """What ``doctor`` says of the neighbours."""
    lines = commands.run(sys.executable, "main.py", "doctor", seconds=90, **extra).stdout.splitlines()
    (line,) = (line for line in lines if "redis neighbours" in line)
    return line


class Here:
    """The same question, asked in this process."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings

    def accepts(self) -> bool:
        return neighbours.check(self._settings, self._ledger) == ()

    def refuses(self) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.accepts()
        return str(caught.value)


@pytest.fixture
def here(app: Celery, ledger: Ledger, jobs_settings: Jobs, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(neighbours, "celery_app", app)
    return Here(ledger, Settings(jobs=jobs_settings))


# --- another Celery app ----------------------------------------------------------------------------------------------


def test_a_running_app_is_named_with_the_remedy(commands: Commands) -> None:
    """Unless it is allowed, which is worth a warning."""
    foreign_worker(commands)
    line = refusal(commands)
    assert "database 0, is used by another Celery app" in line
    assert "its worker till@" in line
    assert "its queue celery" in line
    assert "CELERY_BROKER_URL" in line
    said = starts(commands, **ALLOWED)
    assert "warning " in said
    assert "is used by another Celery app" in said


def test_a_stopped_app_is_found_by_the_queue_that_it_left(commands: Commands, valkey: Valkey) -> None:
    """And where it is gone for good, its key is all that must go. The doctor and ``up`` say the same as a worker."""
    assert foreign_worker(commands).stop() == 0
    line = refusal(commands)
    assert "(its queue celery)" in line
    assert f"delete the key {LEFT_QUEUE} there when that app is gone" in line
    found = doctors_line(commands)
    assert found.startswith("wrong")
    assert line.removeprefix("Error: ") in found
    done = commands.run(sys.executable, "main.py", "up")
    assert done.returncode == 4
    assert line.removeprefix("Error: ") in done.stderr
    valkey.client.delete(LEFT_QUEUE)
    starts(commands)


def test_an_app_with_queues_of_its_own_is_found_while_it_runs(commands: Commands, here: Here) -> None:
    worker = foreign_worker(commands, FOREIGN_QUEUE="till")
    assert f"(its worker till@{socket.gethostname()})" in here.refuses()
    assert worker.stop() == 0
    assert here.accepts()


def test_what_a_killed_app_has_not_acknowledged_is_found(commands: Commands, valkey: Valkey, here: Here) -> None:
    worker = foreign_worker(commands, FOREIGN_QUEUE="till")
    sell(commands, 60, FOREIGN_QUEUE="till")
    wait_until(lambda: valkey.client.hlen("unacked"))
    worker.stop(signal.SIGKILL)
    assert "(unacknowledged messages of till)" in here.refuses()


def test_an_app_on_another_database_is_nobodys_business(valkey: Valkey, here: Here) -> None:
    other = redis.Redis(port=valkey.port, db=1)
    other.sadd(LEFT_QUEUE, "celery\x06\x16\x06\x16celery")
    assert here.accepts()
    other.flushdb()
    other.close()


def test_queues_of_ours_under_celerys_default_name_are_ours(valkey: Valkey, here: Here) -> None:
    """As an app leaves them that routed to these queues without naming a default."""
    valkey.client.sadd(LEFT_QUEUE, "image_processing\x06\x16\x06\x16image_processing")
    assert here.accepts()


def test_a_crowd_of_unacknowledged_messages_is_sampled(valkey: Valkey, here: Here) -> None:
    valkey.client.hset("unacked", mapping={f"ours{n}": '[{"body": ""}, "", "cleanup"]' for n in range(2000)})
    assert here.accepts()
    valkey.client.hset("unacked", mapping={f"theirs{n}": '[{"body": ""}, "till", "till"]' for n in range(2000)})
    assert "(unacknowledged messages of till)" in here.refuses()


def test_nothing_of_ours_counts_as_another_app(commands: Commands, valkey: Valkey) -> None:
    """Workers that live and one that was killed, a job in flight, Flower, the scheduler, and who asks and sends."""
    started(commands, "-n", "killed@%h", "--queues=cleanup").stop(signal.SIGKILL)
    valkey.client.delete("weavloader:nodes")  # as twenty seconds later
    started(commands)
    commands.role("run_scheduler")
    flower = commands.celery("job_system", "flower", WEAVLOADER_FLOWER_PORT=str(free_port()))
    wait_until(
        lambda: (
            any(member.startswith("#") for member in valkey.client.smembers("_kombu.binding.celeryev"))
            and any(name.startswith("scheduler@") for name in valkey.client.zrange("weavloader:roles", 0, -1))
        ),
        60,
    )
    assert commands.run(CELERY, "-A", "job_system", "inspect", "ping").returncode == 0
    assert commands.run(CELERY, "-A", "job_system", "call", "job_system.tasks.check_health").returncode == 0
    valkey.client.hset("unacked", "tag", '[{"body": ""}, "", "image_processing"]')
    assert flower.process.poll() is None
    assert "no other Celery app and no other installation" in doctors_line(commands)
    starts(commands, "-n", "second@%h")


# --- another installation --------------------------------------------------------------------------------------------


def test_an_installation_that_lands_elsewhere_is_refused(commands: Commands) -> None:
    """While a worker of the first lives; that one of its workers ends changes nothing."""
    first = started(commands, "-n", "one@%h", WEAVLOADER_COLLECTION="Mountains")
    starts(commands, WEAVLOADER_COLLECTION="Mountains", WEAVIATE_HOST="localhost", WEAVLOADER_CAPTIONER="gemma3")
    starts(commands, "--queues=data_monitoring", WEAVIATE_HOST="", WEAVLOADER_COLLECTION="Rivers")
    line = refusal(commands, WEAVLOADER_COLLECTION="Rivers")
    assert ":8080, collection Mountains; this one lands in" in line
    assert ":8080, collection Rivers: set another database number in CELERY_BROKER_URL" in line
    found = doctors_line(commands, WEAVLOADER_COLLECTION="Rivers", **ALLOWED)
    assert found.startswith("warning")
    assert line.removeprefix("Error: ").partition(", or set")[0] in found
    assert first.stop() == 0
    starts(commands, WEAVLOADER_COLLECTION="Rivers")


def test_a_pools_child_that_ends_is_not_its_workers_end(commands: Commands, valkey: Valkey) -> None:
    worker = started(commands, "--pool=prefork", "--concurrency=2", "--max-tasks-per-child=1")
    for _ in range(2):
        commands.run(CELERY, "-A", "job_system", "call", "job_system.tasks.sweep_ledger")
    wait_until(lambda: worker.output().count("succeeded") >= 2, 60)
    assert valkey.client.zcard("weavloader:nodes") == 1
    assert worker.stop() == 0
    assert valkey.client.zcard("weavloader:nodes") == 0


def test_another_store_is_another_installation_unless_allowed(valkey: Valkey, here: Here) -> None:
    with Ledger(Jobs(broker_url=valkey.url)) as ledger:
        assert Membership(settings_of(valkey.url, "A"), "one@h").join(ledger) == ()
        with pytest.raises(ConfigurationError, match="lands in store:8080, collection A; this one lands in other:80"):
            Membership(settings_of(valkey.url, "A", host="other"), "two@h").join(ledger)
        allowed = settings_of(valkey.url, "A", host="other", allow_shared_redis=True)
        (warning,) = Membership(allowed, "two@h").join(ledger)
        assert "this one lands in other:80" in warning
        with pytest.raises(ConfigurationError, match="lands in other:8080, collection A and one in store:8080"):
            neighbours.check(Settings(jobs=Jobs(broker_url=valkey.url)), ledger)


def settings_of(url: str, collection: str, host: str = "store", **jobs: bool) -> Settings:
    return Settings(jobs=Jobs(broker_url=url, **jobs), weaviate=Weaviate(host=host, collection=collection))


def test_of_two_that_come_at_once_one_is_first(valkey: Valkey) -> None:
    joined: list[str] = []
    barrier = threading.Barrier(8)

    def join(number: int) -> None:
        collection = f"C{number % 2}"
        with Ledger(Jobs(broker_url=valkey.url)) as ledger:
            barrier.wait()
            if not ledger.neighbours.join(Node(f"n{number}@h", "h:1", collection), 20, anyway=False):
                joined.append(collection)

    threads = [threading.Thread(target=join, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert joined in (["C0"] * 4, ["C1"] * 4)


def test_a_worker_that_says_nothing_any_more_does_not_count(ledger: Ledger) -> None:
    seconds = 1.0
    assert ledger.neighbours.join(Node("one@h", "h:1", "A"), seconds, anyway=False) == []
    assert ledger.neighbours.join(Node("two@h", "h:2", "B"), seconds, anyway=False) == ["A"]
    wait_until(lambda: ledger.neighbours.join(Node("two@h", "h:2", "B"), seconds, anyway=False) == [])


def test_a_worker_starts_on_a_full_server(tmp_path: Path) -> None:
    """It is what makes room there."""
    with running_valkey(tmp_path) as server, Ledger(Jobs(broker_url=server.url)) as ledger:
        server.client.config_set("maxmemory", 1)
        assert Membership(settings_of(server.url, "A"), "one@h").join(ledger) == ()


def test_a_host_that_means_this_one_goes_by_its_name() -> None:
    """What two hosts call localhost are two stores."""
    named = [identity(Weaviate(host=host)) for host in ("localhost", "127.0.0.1", "::1", "127.0.0.2")]
    assert len(set(named)) == 1
    assert "localhost" not in named[0]
    assert identity(Weaviate(host="Store.example")) == "store.example:8080, collection HybridSearchExample"
    assert identity(Weaviate()) == ""
