"""What Celery is told, and what it says where it cannot start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from job_system.celery_config import configuration
from job_system.queues import node_name
from ledger import Ledger
from settings import Jobs, Settings
from tests.fixtures.redis import Valkey, free_port, running_valkey, wait_until
from tests.fixtures.workers import Commands

CELERY = str(Path(sys.executable).with_name("celery"))


def config(url: str, **jobs: object) -> dict[str, object]:
    return configuration(Settings(jobs=Jobs(broker_url=url, **jobs)))  # type: ignore[arg-type]


@pytest.mark.parametrize("sent", [True, False])
def test_task_events_are_sent_as_the_setting_says(sent: bool) -> None:
    assert config("redis://127.0.0.1:6379/0", task_events=sent)["worker_send_task_events"] is sent


def test_importing_the_app_needs_no_broker(brokerless: Commands) -> None:
    done = brokerless.run(sys.executable, "-W", "error", "-c", "from job_system import celery_app; import tasks")
    assert (done.returncode, done.stderr) == (0, "")


def test_queues_routes_and_names_can_be_read_without_a_broker(brokerless: Commands) -> None:
    show = (
        "from tasks import celery_app, reprocess_dlq_tasks; print(reprocess_dlq_tasks.name);"
        "print(*[queue.name for queue in celery_app.conf.task_queues]);"
        "print(celery_app.conf.task_routes[reprocess_dlq_tasks.name]['queue'], celery_app.conf.task_serializer);"
        "print(*sorted(celery_app.conf.beat_schedule))"
    )
    done = brokerless.run(sys.executable, "-W", "error", "-c", show)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "job_system.tasks.reprocess_dlq_tasks",
        "image_processing data_monitoring cleanup",
        "cleanup json",
        "check-health cleanup-failed-tasks forget-old-images reprocess-dlq-tasks",
    ]


@pytest.mark.parametrize(
    "use",
    ["tasks.check_health.delay()", "celery_app.control.ping()", "celery_app.connection()", "celery_app.backend"],
)
def test_what_needs_a_broker_names_the_missing_setting(brokerless: Commands, use: str) -> None:
    code = f"import sys, tasks; from tasks import celery_app; from errors import ConfigurationError\ntry:\n {use}\n"
    code += "except ConfigurationError as error:\n print(error)\n sys.exit(error.exit_code)"
    done = brokerless.run(sys.executable, "-c", code)
    assert done.returncode == 4
    assert done.stdout.startswith("CELERY_BROKER_URL is not set")


def test_a_broker_that_becomes_known_later_is_used(brokerless: Commands, valkey: Valkey) -> None:
    code = "import tasks, settings; print(tasks.celery_app.conf.task_default_queue);"
    code += f"settings.export('CELERY_BROKER_URL', {valkey.url!r}); tasks.check_health.delay()"
    done = brokerless.run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("cleanup\n", "")
    assert valkey.client.llen("cleanup") == 1


@pytest.mark.parametrize("app", ["job_system", "tasks"])
@pytest.mark.parametrize("command", ["worker", "beat", "inspect ping", "purge -f", "flower", "report"])
def test_without_a_broker_every_command_ends_with_4_and_one_line(brokerless: Commands, app: str, command: str) -> None:
    done = brokerless.run(CELERY, "-A", app, *command.split())
    assert done.returncode == 4
    assert done.stderr.startswith("Error: CELERY_BROKER_URL is not set")
    assert "main.py up" in done.stderr
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1


def test_flower_without_a_broker_makes_no_password(brokerless: Commands) -> None:
    brokerless.run(CELERY, "-A", "job_system", "flower")
    assert not (brokerless.folder / "data").exists()


def test_a_wrong_setting_ends_a_command_with_4_and_one_line(brokerless: Commands) -> None:
    done = brokerless.run(CELERY, "-A", "job_system", "worker", CELERY_BROKER_URL="amqp://localhost")
    assert done.returncode == 4
    assert done.stderr.startswith("Error: CELERY_BROKER_URL (from environment)")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_worker_refuses_a_server_that_evicts(brokerless: Commands, tmp_path: Path) -> None:
    with running_valkey(tmp_path / "evicting", "--maxmemory-policy", "allkeys-lru") as server:
        done = brokerless.run(CELERY, "-A", "job_system", "-q", "worker", CELERY_BROKER_URL=server.url)
    assert done.returncode == 4
    assert "maxmemory-policy allkeys-lru" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_whose_server_is_unreachable_ends_with_3(brokerless: Commands) -> None:
    done = brokerless.run(CELERY, "-A", "job_system", "-q", "worker", CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_role_without_its_parts_says_which_settings_are_missing(brokerless: Commands) -> None:
    done = brokerless.run(sys.executable, "main.py", "processor", CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 4
    assert "TRITON_HOST, WEAVIATE_HOST are not set" in done.stderr


def test_a_worker_of_images_without_its_parts_ends_with_4_and_one_line(brokerless: Commands, valkey: Valkey) -> None:
    done = brokerless.run(CELERY, "-A", "job_system", "worker", CELERY_BROKER_URL=valkey.url)
    assert done.returncode == 4
    assert done.stderr.startswith("Error: TRITON_HOST, WEAVIATE_HOST are not set")
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1


@pytest.mark.parametrize("queue", ["cleanup", "data_monitoring"])
def test_a_worker_of_other_queues_needs_the_broker_only(brokerless: Commands, valkey: Valkey, queue: str) -> None:
    worker = brokerless.celery("job_system", "worker", f"--queues={queue}", CELERY_BROKER_URL=valkey.url)
    worker.says("worker ready")
    assert worker.stop() == 0


def test_a_plain_worker_takes_all_queues_with_threads(commands: Commands) -> None:
    worker = commands.celery("job_system", "worker", WEAVLOADER_IN_FLIGHT="7")
    worker.says("worker ready")
    assert "roles=processor,moderator,cleaner in_flight=7" in worker.output()
    assert "7 (thread)" in worker.output()
    assert worker.stop() == 0


def test_concurrency_is_the_number_of_images_in_flight(commands: Commands) -> None:
    worker = commands.celery("tasks", "worker", "--concurrency", "3", "--queues", "image_processing")
    worker.says("worker ready")
    assert "roles=processor in_flight=3" in worker.output()
    assert worker.stop() == 0


def test_workers_of_one_role_have_distinct_names(commands: Commands, valkey: Valkey) -> None:
    workers = [commands.role("run_moderator") for _ in range(2)]
    for worker in workers:
        worker.says("worker ready")
    done = commands.run(CELERY, "-A", "job_system", "inspect", "ping", "--json")
    assert "moderator@" in done.stdout
    assert "moderator2@" in done.stdout
    assert all("[MODERATOR]" in line for worker in workers for line in worker.output().splitlines())
    assert [worker.stop() for worker in workers] == [0, 0]
    assert all("[MODERATOR]" in line for worker in workers for line in worker.output().splitlines())


def test_workers_of_two_data_folders_have_distinct_names_on_one_broker(commands: Commands, tmp_path: Path) -> None:
    workers = [commands.role("run_cleaner", WEAVLOADER_DATA_DIR=str(tmp_path / name)) for name in ("one", "two")]
    for worker in workers:
        worker.says("worker ready")
    done = commands.run(CELERY, "-A", "job_system", "inspect", "ping", "--json")
    assert sorted(name.partition("@")[0] for name in json.loads(done.stdout)) == ["cleaner", "cleaner2"]


def claimed(url: str) -> str:
    """The name that another process gets."""
    claim = f"from job_system.queues import node_name; print(node_name('cleaner', {url!r}))"
    done = subprocess.run([sys.executable, "-c", claim], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_name_is_free_again_when_its_process_ended() -> None:
    url = f"redis://:secret@localhost:{free_port()}/0"
    assert claimed(url) == "cleaner@%h"
    assert node_name("cleaner", url) == "cleaner@%h"
    assert claimed(url) == "cleaner2@%h"


def test_a_name_belongs_to_a_broker_whatever_the_login() -> None:
    port = free_port()
    assert node_name("cleaner", f"redis://:secret@localhost:{port}/0") == "cleaner@%h"
    assert claimed(f"redis://me:other@127.0.0.1:{port}") == "cleaner2@%h"
    assert claimed(f"redis://:secret@localhost:{port}/1") == "cleaner@%h"


def test_sentinels_and_their_master_are_handed_on() -> None:
    """Login and database at each of them: Celery takes them from the one that it asks."""
    made = config("sentinel://a:26379;sentinel://:s%2Fecret@b:26380/2?master_name=images")
    assert made["broker_url"] == "sentinel://:s%2Fecret@a:26379/2;sentinel://:s%2Fecret@b:26380/2"
    assert made["result_backend"] == made["broker_read_url"] == made["broker_write_url"] == made["broker_url"]
    assert made["broker_transport_options"]["master_name"] == "images"  # type: ignore[index]
    options = made["redbeat_redis_options"]
    assert options["sentinels"] == [("a", 26379), ("b", 26380)]  # type: ignore[index]
    assert (options["service_name"], options["db"]) == ("images", 2)  # type: ignore[index]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@a:6379/0",
        "rediss://u:s3cret@a:6379/0?ssl_cert_reqs=CERT_NONE",
        "sentinel://:s3cret@a:26379;sentinel://:s3cret@b:26380/2?master_name=images&sentinel_password=s3cret",
    ],
)
def test_the_configuration_that_workers_hand_out_holds_no_password(url: str) -> None:
    """Anybody who reaches the broker may ask for it: ``celery inspect conf``, and Flower shows it."""
    app = Celery("test", set_as_current=False)
    app.conf.update(config(url))
    assert "s3cret" not in str(app.conf.table(with_defaults=True, censored=True))


def test_tls_checks_certificates_unless_the_url_says_otherwise() -> None:
    assert "broker_use_ssl" in config("rediss://a:6379/0")
    assert "broker_use_ssl" not in config("rediss://a:6379/0?ssl_cert_reqs=CERT_NONE")
    assert "broker_use_ssl" not in config("redis://a:6379/0")


def test_a_worker_says_that_it_lives_and_that_it_ended(commands: Commands, ledger: Ledger) -> None:
    worker = commands.role("run_cleaner")
    wait_until(lambda: any(name.startswith("cleaner@") for name in ledger.roles()), 60)
    assert worker.stop() == 0
    assert ledger.roles() == []
