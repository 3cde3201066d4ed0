"""Every metric, once: name, type, labels, unit, help.

Label values come from bounded sets: tasks, queues, models, causes, and what sources call their nodes, jobs, tasks and
cameras (cut off at a number of series by the recorder). Never an image's, task's or message's id, never a URL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "weavloader_"

#: The roles that are Celery workers; a plain `celery worker` without a role of its own is "worker".
WORKERS = ("processor", "moderator", "cleaner", "worker")

Kind = Literal["counter", "gauge", "histogram"]
#: How the processes of a host add up: their sum, or the newest value; a dead process's gauge is gone.
Mode = Literal["livesum", "livemostrecent"]

#: Upper bounds in seconds.
SHORT = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``unit`` is what its value counts; ``scraped`` ones are computed when somebody looks."""

    short_name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    help: str
    buckets: tuple[float, ...] = ()
    mode: Mode = "livesum"
    scraped: bool = False

    @property
    def name(self) -> str:
        """The name as operators see it."""
        return PREFIX + self.short_name


def _counter(name: str, unit: str, help: str, *labels: str) -> Metric:
    return Metric(name, "counter", labels, unit, help)


def _gauge(name: str, unit: str, help: str, *labels: str, mode: Mode = "livesum") -> Metric:
    return Metric(name, "gauge", labels, unit, help, mode=mode)


def _seconds(name: str, help: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, "histogram", labels, "seconds", help, buckets)


def _scraped(name: str, unit: str, help: str, *labels: str) -> Metric:
    return Metric(name, "gauge", labels, unit, help, scraped=True)


# Tasks and the Celery workers of this host
TASKS = _counter("tasks_total", "tasks", "Attempts at tasks that ended, by outcome", "task", "queue", "outcome")
TASK_DURATION = _seconds(
    "tasks_duration_seconds", "Time of one attempt at a task", "task", "queue", "outcome", buckets=LONG
)
TASKS_RETRIED = _counter("tasks_retried_total", "tasks", "Retries of tasks, by reason", "task", "retry_reason")
CELERY_WORKERS = _scraped("celery_workers", "processes", "Living Celery workers of this host, by role", "worker_type")
CELERY_ACTIVE = _gauge("celery_active_tasks", "tasks", "Tasks in flight on this host", "queue")
CELERY_RESERVED = _gauge("celery_reserved_tasks", "tasks", "Tasks that this host received and did not start", "queue")
CELERY_EVENTS = _counter("celery_events_total", "events", "What happened to tasks on this host", "event")
MEMORY = _scraped("memory_usage_bytes", "bytes", "Resident memory of each role with its children", "worker_type")
IN_FLIGHT = _gauge("images_in_flight", "images", "Images that this host's processes have under lease and work on")
LEASES = _counter("leases_total", "leases", "What became of asking for and holding leases on this host", "event")
CIRCUITS = _gauge(
    "circuit_processes",
    "processes",
    "Processes of this host by what they hold of a part: open while they count it as away, else closed",
    "part",
    "state",
)
BUILD = _scraped("build_info", "constant", "1, with what runs here as labels", "version", "python")
DISK_USED = _scraped("disk_used_ratio", "share", "Used share of the disk that a folder of this host is on", "folder")

# Sources
IMAGES_RECEIVED = _counter(
    "sage_images_received_total", "images", "New images that sources gave", "node_id", "job", "task", "camera"
)
IMAGES_SKIPPED = _counter("images_skipped_total", "images", "Images left out, by reason", "reason")
IMAGES_REDONE = _counter(
    "images_redone_total",
    "images",
    "Landed images that were made again: landed, or dead with the older object kept; of an original or a thumbnail",
    "outcome",
    "made_from",
)
IMAGES_FORGOTTEN = _counter("images_forgotten_total", "images", "Images forgotten, by reason", "reason")
STREAM_HEALTH = _gauge(
    "sage_stream_health", "boolean", "1 when the last poll of all sources succeeded, else 0", mode="livemostrecent"
)

# Stages, models and the store
STAGE_DURATION = _seconds("stage_duration_seconds", "Time of one stage of an image", "stage", "status", buckets=SHORT)
BYTES_FETCHED = _counter("fetched_bytes_total", "bytes", "Bytes of images fetched, by source", "source")
MODEL_DURATION = _seconds(
    "model_inference_duration_seconds", "Time of one inference", "model_name", "operation", "status", buckets=LONG
)
MODEL_INFERENCES = _counter(
    "model_inference_total", "inferences", "Inferences, by outcome", "model_name", "operation", "status"
)
STORE_DURATION = _seconds(
    "weaviate_operation_duration_seconds", "Time of one request to the store", "operation", "status", buckets=SHORT
)
STORE_OPERATIONS = _counter(
    "weaviate_operations_total", "requests", "Requests to the store, by outcome", "operation", "status"
)

# Dead letters
DEAD_LETTERED = _counter("tasks_dead_lettered_total", "tasks", "Jobs that became dead letters", "cause", "kind")
DLQ_THROWN_AWAY = _counter(
    "dlq_tasks_thrown_away_total", "tasks", "Dead letters dropped for good", "node_id", "job", "task", "camera"
)
DLQ_REPROCESSED = _counter("dlq_tasks_reprocessed_total", "tasks", "Dead letters put back to work", "status")

ERRORS = _counter("errors_total", "errors", "Errors, by where and what", "component", "error_type")

# Standing searches
WATCHED = _counter("watched_images_total", "images", "Landed images that standing searches looked at")
WATCH_MATCHES = _counter(
    "watch_matches_total",
    "matches",
    "What standing searches found, alerts too, by what became of it",
    "outcome",
)
WEBHOOK_POSTS = _counter("webhook_posts_total", "posts", "Posts to webhooks, by outcome", "outcome")

# What is cluster-wide, asked of Redis
QUEUE_SIZE = _scraped("queue_size", "messages", "Messages that wait in a queue", "queue_name")
DLQ_SIZE = _scraped("dlq_size", "tasks", "Dead letters kept")
DEAD_LETTERS = _scraped("dead_letters", "tasks", "Dead letters kept, by cause", "cause")
LEDGER_IMAGES = _scraped("ledger_images", "images", "Where every image is; seen is their sum", "state")
PENDING_IMAGES = _scraped(
    "ledger_pending_images", "images", "Pending images: queued, waiting for their next attempt, or suspects", "place"
)
KEPT_OUTPUTS = _scraped("kept_outputs", "images", "Images that wait with what models made for them kept")
FORGETTING = _scraped("forgetting_images", "images", "Forgotten and cancelled images that the store is still to delete")
REDIS_MEMORY = _scraped("redis_memory_bytes", "bytes", "Memory that the Redis server uses")
OLDEST_JOB = _scraped(
    "oldest_job_age_seconds", "seconds", "Age of the oldest image that waits in the queue; 0 when none"
)

# The second lane
BACKFILLS = _scraped(
    "backfills", "backfills", "Backfills that run, are paused, or whose images are on their way", "state"
)
BACKFILL_IMAGES = _scraped(
    "backfill_images",
    "images",
    "Images of these backfills: left to be queued (estimated from what was read), queued, leased or waiting",
    "place",
)

# A new version of the collection
REINDEX_IMAGES = _scraped(
    "reindex_images",
    "images",
    "Images of the reindex under way: left, copied, landed and to be copied (again), or impossible to embed",
    "place",
)

# Standing searches of the whole installation
WATCH_BACKLOG = _scraped(
    "watch_backlog_images", "images", "Landed images that standing searches have not looked at yet"
)
WATCH_MISSED = _scraped(
    "watch_missed_images", "images", "Landed images that no standing search will look at, as too many waited"
)
WEBHOOKS_WAITING = _scraped("webhook_waiting_deliveries", "deliveries", "Webhook deliveries that wait")
WEBHOOKS_DEAD = _scraped("webhook_dead_deliveries", "deliveries", "Webhook deliveries that are dead letters")
WEBHOOKS_OVERDUE = _scraped(
    "webhook_overdue_seconds",
    "seconds",
    "How long ago the delivery that is due first should have been posted; 0 when none",
)

# What the models give at most, and what lands of that; absent until `calibrate` has measured the configured ones
CEILING = _scraped(
    "model_ceiling_images_per_second", "images per second", "What the configured models gave when they were calibrated"
)
EFFICIENCY = _scraped(
    "efficiency_ratio", "share", "Images landed a second over the last minute, divided by the models' ceiling"
)

# What the last round of polling said of each source, for a day
SOURCE_POLL_AGE = _scraped("source_poll_age_seconds", "seconds", "Seconds since a source was last polled", "source")
SOURCE_FAILED = _scraped("source_failed", "boolean", "1 when a source's last poll failed, else 0", "source")
SOURCE_HELD = _scraped("source_held", "boolean", "1 while a source waits for the backlog to be worked off", "source")
SOURCE_PAUSED = _scraped("source_paused", "boolean", "1 while a source refuses the login and is paused", "source")

COMPONENT_HEALTH = _scraped("component_health", "boolean", "1 when the part answered its canary, else 0", "component")

CATALOG: tuple[Metric, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
