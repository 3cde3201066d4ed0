"""Celery's configuration, made from the settings."""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from celery.schedules import crontab
from kombu.entity import Queue

from job_system.queues import CLEANUP, IMAGES, MONITORING, ROUTES, TASKS
from ledger.connection import BrokerAddress, parse_broker_url, sentinel_options
from settings import Jobs, Settings

#: Seconds without an answer after which a connection to the broker counts as dead.
SOCKET_SECONDS = 15
#: Seconds for which a dead scheduler's lock keeps others from taking over.
SCHEDULER_LOCK_SECONDS = 15
#: Most seconds between two looks of the scheduler at its schedule; it must be well below the lock's time.
SCHEDULER_TICK_SECONDS = 3
#: Seconds for which a task's result is kept.
RESULT_SECONDS = 3600


def configuration(settings: Settings) -> dict[str, Any]:
    """What Celery is told. Without a broker's URL: all that can be told without one."""
    jobs = settings.jobs
    transport: dict[str, Any] = {
        "visibility_timeout": jobs.visibility_timeout,
        "socket_keepalive": True,
        "socket_connect_timeout": SOCKET_SECONDS,
        "health_check_interval": SOCKET_SECONDS,
        "retry_on_timeout": True,
        # a message that lost its worker shows up soon after its visibility timeout (the ledger is quicker anyway)
        "unacked_restore_interval": 10,
    }
    config: dict[str, Any] = {
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": SOCKET_SECONDS,
        "result_expires": RESULT_SECONDS,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": SOCKET_SECONDS,
        "redis_socket_connect_timeout": SOCKET_SECONDS,
        # Plain lists of exactly these names; a worker without --queues takes all three.
        "task_queues": [_queue(name) for name in (IMAGES, MONITORING, CLEANUP)],
        "task_default_queue": CLEANUP,
        "task_create_missing_queues": False,
        "task_routes": {name: {"queue": queue} for name, queue in ROUTES.items()},
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # A message is acknowledged when its job is settled in the ledger, not when it arrives.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "task_track_started": False,
        # A job waits for other servers, so that one process keeps many in flight: threads, of which each only waits
        # for its coroutine. The next message is taken when one is settled: more would be reserved by a worker that
        # does not get to them (measured: 127 of the ideal 128 images/s with 1, 129 with 2 or 4).
        "worker_pool": "threads",
        "worker_concurrency": jobs.in_flight,
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "job_system.consumer:Consumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": jobs.task_events,
        "task_send_sent_event": False,
        "event_queue_ttl": 60,
        "event_queue_expires": 120,
        "worker_enable_remote_control": True,
        "timezone": "UTC",
        "enable_utc": True,
        "beat_scheduler": "job_system.scheduler:OneScheduler",
        "beat_max_loop_interval": SCHEDULER_TICK_SECONDS,
        "beat_schedule": schedule(),
        "redbeat_redis_options": {
            "socket_keepalive": True,
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": SOCKET_SECONDS,
        },
        "redbeat_lock_timeout": SCHEDULER_LOCK_SECONDS,
        "redbeat_key_prefix": "weavloader:beat:",
    }
    if jobs.broker_url:
        _add_servers(config, jobs)
    return config


def _add_servers(config: dict[str, Any], jobs: Jobs) -> None:
    backend = jobs.result_backend or jobs.broker_url
    config |= {"broker_url": jobs.broker_url, "result_backend": backend}
    transport = config["broker_transport_options"]
    address = parse_broker_url(jobs.broker_url)
    if address.master_name:
        config["broker_url"] = _sentinel_urls(address)
        transport["master_name"] = address.master_name
        transport["sentinel_kwargs"] = sentinel_options(address)
        config["redbeat_redis_options"] |= {
            "sentinels": list(address.hosts),
            "service_name": address.master_name,
            "username": address.user or None,
            "password": address.password or None,
            "db": address.db,
            "sentinel_kwargs": sentinel_options(address),
        }
    # Celery takes the variable CELERY_BROKER_URL as it stands before broker_url, but not before these two
    config["broker_read_url"] = config["broker_write_url"] = config["broker_url"]
    if address.tls and "ssl_cert_reqs" not in jobs.broker_url:
        config["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    kept = parse_broker_url(backend)
    if kept.master_name:
        config["result_backend"] = _sentinel_urls(kept)
        config["result_backend_transport_options"] = {
            "master_name": kept.master_name,
            "sentinel_kwargs": sentinel_options(kept),
        }
    if kept.tls and "ssl_cert_reqs" not in backend:
        config["redis_backend_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def scheduler_url(jobs: Jobs) -> str:
    """Where RedBeat keeps its schedule. It is told to the scheduler alone: workers hand out their configuration to
    whoever asks (``celery inspect conf``, Flower), and of RedBeat's settings Celery would not hide the password.
    """
    if parse_broker_url(jobs.broker_url).master_name:
        return "redis-sentinel"
    # RedBeat hands the URL to the Redis client, which knows Celery's word CERT_NONE as none
    return re.sub("ssl_cert_reqs=CERT_[A-Z]+", _client_word, jobs.broker_url)


def schedule() -> dict[str, dict[str, Any]]:
    """What the scheduler sends. A message that nobody took by the time of the next is dropped (``expires``)."""
    return {
        "check-health": {
            "task": f"{TASKS}.check_health",
            "schedule": timedelta(minutes=30),
            "options": {"expires": 1800},
        },
        "cleanup-failed-tasks": {
            "task": f"{TASKS}.cleanup_failed_tasks",
            "schedule": crontab(minute="17"),
            "options": {"expires": 3600},
        },
        "forget-old-images": {
            "task": f"{TASKS}.forget_old_images",
            "schedule": timedelta(minutes=10),
            "options": {"expires": 600},
        },
        "reprocess-dlq-tasks": {
            "task": f"{TASKS}.reprocess_dlq_tasks",
            "schedule": crontab(hour="3", minute="41"),
            "options": {"expires": 86400},
        },
    }


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]


def _client_word(setting: re.Match[str]) -> str:
    return setting[0].replace("CERT_", "").lower()


def _sentinel_urls(address: BrokerAddress) -> str:
    """The sentinels' URLs as kombu reads them: each alone says login and database, and the master's name goes beside
    them, not into them.
    """
    login = f"{quote(address.user, safe='')}:{quote(address.password, safe='')}@" if address.password else ""
    return ";".join(f"sentinel://{login}{host}:{port}/{address.db}" for host, port in address.hosts)
