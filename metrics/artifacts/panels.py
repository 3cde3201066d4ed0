"""Every panel of the dashboard, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metrics import catalog
from metrics.artifacts import queries
from metrics.artifacts.queries import IMAGE_TASK, least, quantile, rate, ratio, shared, total

Kind = Literal["timeseries", "stat", "bargauge"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``queries`` are pairs of a query and its legend; ``unit`` is Grafana's word for it.

    ``bad`` is the value from which on a stat or bar is red (below which, where ``low_is_bad``).
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "timeseries"
    width: int = 8
    description: str = ""
    bad: float | None = None
    low_is_bad: bool = False


def _one(title: str, unit: str, query: str, legend: str = "", **options: object) -> Panel:
    return Panel(title, unit, ((query, legend),), **options)  # type: ignore[arg-type]


def _three(title: str, metric: catalog.Metric, *by: str, where: str = "") -> Panel:
    """Median, 95th and 99th percentile of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    shares = (0.5, 0.95, 0.99)
    found = tuple((quantile(share, metric, *by, where=where), f"{legend} p{share * 100:g}".strip()) for share in shares)
    return Panel(title, "s", found)


HEALTH = (
    _one(
        "Parts",
        "bool_yes_no",
        least(catalog.COMPONENT_HEALTH, "component"),
        "{{component}}",
        kind="stat",
        width=12,
        description="Whether each part answers its canary, which asks it for something real.",
        bad=1,
        low_is_bad=True,
    ),
    _one(
        "Since each source's last poll",
        "s",
        f"min by (source) ({catalog.SOURCE_POLL_AGE.name})",
        "{{source}}",
        kind="stat",
        width=6,
        bad=900,
    ),
    _one("Version", "none", f"max by (version, python) ({catalog.BUILD.name})", "{{version}}", kind="stat", width=6),
    _one(
        "Processes that count a part as away",
        "short",
        total(catalog.CIRCUITS, "part", where='state="open"'),
        "{{part}}",
        description="Images wait in these processes; one at a time tries whether the part serves again.",
    ),
    Panel(
        "Sources that give nothing",
        "bool_yes_no",
        (
            (shared(catalog.SOURCE_FAILED, "source"), "{{source}} cannot be polled"),
            (shared(catalog.SOURCE_HELD, "source"), "{{source}} waits for the backlog"),
            (shared(catalog.SOURCE_PAUSED, "source"), "{{source}} refuses the login"),
        ),
    ),
    Panel(
        "Disks",
        "percentunit",
        ((f"max by (instance, folder) ({catalog.DISK_USED.name})", "{{folder}} on {{instance}}"),),
        description="From 90% on Weaviate takes no writes and images wait.",
    ),
)

FLOW = (
    Panel(
        "Images a second",
        "short",
        (
            ("weavloader:received:rate5m", "received"),
            ("weavloader:landed:rate5m", "landed"),
            (f"{queries.FAILED} or vector(0)", "dead"),
            (f"{rate(catalog.IMAGES_SKIPPED)} or vector(0)", "skipped"),
            (f"{rate(catalog.IMAGES_FORGOTTEN)} or vector(0)", "forgotten"),
        ),
        width=12,
    ),
    _one(
        "Gap",
        "short",
        "weavloader:received:rate5m - weavloader:landed:rate5m",
        "received but not landed, a second",
        width=12,
        description="Above 0 the backlog grows.",
    ),
    Panel(
        "Backlog",
        "short",
        (
            (shared(catalog.PENDING_IMAGES, "place"), "{{place}}"),
            (shared(catalog.LEDGER_IMAGES, where='state="leased"'), "leased"),
        ),
    ),
    Panel(
        "Backfills",
        "short",
        (
            (shared(catalog.BACKFILL_IMAGES, "place"), "{{place}}"),
            (shared(catalog.BACKFILLS, "state"), "backfills {{state}}"),
        ),
        description="Images that backfills have left (estimated), queued, in work and waiting.",
    ),
    _one(
        "Reindex",
        "short",
        f"{shared(catalog.REINDEX_IMAGES, 'place')} or vector(0)",
        "{{place}}",
        description="While a new version of the collection is filled: images left, copied, landed meanwhile, missing.",
    ),
    _one("Queues", "short", shared(catalog.QUEUE_SIZE, "queue_name"), "{{queue_name}}"),
    _one("Age of the oldest queued image", "s", shared(catalog.OLDEST_JOB), "oldest"),
    _one(
        "Where all images are",
        "short",
        shared(catalog.LEDGER_IMAGES, "state"),
        "{{state}}",
        kind="bargauge",
        description="seen = pending + leased + landed + dead + skipped + forgotten.",
    ),
    _one("Ledger's difference", "short", "weavloader:ledger_difference:images", "images", kind="stat", width=4, bad=1),
    _one("Outputs kept", "short", shared(catalog.KEPT_OUTPUTS), "images", kind="stat", width=4),
    _one("To be deleted from the store", "short", shared(catalog.FORGETTING), "images", kind="stat", width=4),
    _one("Received, by node", "short", rate(catalog.IMAGES_RECEIVED, "node_id"), "{{node_id}}"),
    _one(
        "Made again a second",
        "short",
        f"{rate(catalog.IMAGES_REDONE, 'outcome', 'made_from')} or vector(0)",
        "{{outcome}}, of {{made_from}}",
        description="Landed images that `reprocess` ordered. They count as landed, and were not received.",
    ),
    Panel(
        "Standing searches a second",
        "short",
        (
            (f"{rate(catalog.WATCHED)} or vector(0)", "looked at"),
            (f"{rate(catalog.WATCH_MATCHES, 'outcome')} or vector(0)", "found: {{outcome}}"),
            (f"{rate(catalog.WEBHOOK_POSTS, 'outcome')} or vector(0)", "posts: {{outcome}}"),
        ),
    ),
    Panel(
        "Standing searches: what waits",
        "short",
        (
            (shared(catalog.WATCH_BACKLOG), "landed, not looked at"),
            (shared(catalog.WATCH_MISSED), "landed, never looked at"),
            (shared(catalog.WEBHOOKS_WAITING), "deliveries that wait"),
            (shared(catalog.WEBHOOKS_DEAD), "dead deliveries"),
        ),
    ),
    _one(
        "Webhook posts that fail",
        "percentunit",
        queries.WEBHOOKS_FAILING,
        "failed",
        kind="stat",
        width=4,
        bad=0.5,
        description="Of the last half hour's attempts, those that wait for another or are dead letters now.",
    ),
    _one("Dead deliveries, more in an hour", "short", queries.WEBHOOKS_DIED, "more", kind="stat", width=4, bad=1),
    _one("Posts overdue", "s", shared(catalog.WEBHOOKS_OVERDUE), "overdue", kind="stat", width=4, bad=300),
)

SUCCESS = (
    _one(
        "Images that land, of those that end",
        "percentunit",
        "weavloader:images_landed:ratio5m",
        "landed",
        kind="stat",
        bad=0.95,
        low_is_bad=True,
    ),
    _one("Attempts that go well, by task", "percentunit", "weavloader:tasks_success:ratio5m", "{{task}}"),
    _one("Attempts at images, by outcome", "short", rate(catalog.TASKS, "outcome", where=IMAGE_TASK), "{{outcome}}"),
    _one(
        "Inferences that go well",
        "percentunit",
        ratio(
            rate(catalog.MODEL_INFERENCES, "model_name", where='status="success"'),
            rate(catalog.MODEL_INFERENCES, "model_name"),
        ),
        "{{model_name}}",
    ),
    _one(
        "Requests to the store that go well",
        "percentunit",
        ratio(
            rate(catalog.STORE_OPERATIONS, "operation", where='status="success"'),
            rate(catalog.STORE_OPERATIONS, "operation"),
        ),
        "{{operation}}",
    ),
    _one(
        "Retries, by reason",
        "short",
        rate(catalog.TASKS_RETRIED, "task", "retry_reason"),
        "{{task}}: {{retry_reason}}",
    ),
)

LATENCY = (
    _one("Stages, 95th percentile", "s", "weavloader:stage_seconds:p95", "{{stage}}", width=12),
    _one(
        "Seconds of each stage a second",
        "short",
        rate(catalog.STAGE_DURATION, "stage", suffix="_sum"),
        "{{stage}}",
        width=12,
        description="How many images are in each stage at a time, by Little's law; decode is a part of prepare.",
    ),
    _three("Attempts at images", catalog.TASK_DURATION, where=IMAGE_TASK),
    _three("Inferences", catalog.MODEL_DURATION, "model_name"),
    _three("Requests to the store", catalog.STORE_DURATION, "operation"),
)

MODELS = (
    Panel(
        "Efficiency: what lands of what the models give at most",
        "percentunit",
        (
            (shared(catalog.EFFICIENCY), "over a minute"),
            ("weavloader:efficiency:ratio5m", "over five"),
        ),
        description="Of the ceiling that the last `python main.py calibrate` measured; low too while nothing waits.",
    ),
    Panel(
        "Images landed a second, and the models' ceiling",
        "short",
        (
            ("weavloader:landed:rate5m", "landed"),
            (shared(catalog.CEILING), "ceiling"),
        ),
    ),
    _one(
        "Share of their time that images spend at models",
        "percentunit",
        "weavloader:models_share:ratio5m",
        "at models",
        description="Near 1 the models are the bottleneck, as they should be; else something else holds images up.",
    ),
    _one(
        "Inferences a second",
        "short",
        rate(catalog.MODEL_INFERENCES, "model_name", "operation"),
        "{{model_name}} {{operation}}",
    ),
    _one("Bytes fetched a second", "Bps", rate(catalog.BYTES_FETCHED, "source"), "{{source}}"),
)

DEAD = (
    _one("Dead letters kept", "short", shared(catalog.DLQ_SIZE), "letters", kind="stat", width=4, bad=1),
    _one("Dead letters, by cause", "short", shared(catalog.DEAD_LETTERS, "cause"), "{{cause}}", width=10),
    _one("New dead letters a second", "short", rate(catalog.DEAD_LETTERED, "cause"), "{{cause}}", width=10),
    Panel(
        "Letters put back to work, and thrown away",
        "short",
        (
            (f"{rate(catalog.DLQ_REPROCESSED)} or vector(0)", "put back"),
            (f"{rate(catalog.DLQ_THROWN_AWAY)} or vector(0)", "thrown away"),
        ),
        width=12,
    ),
    _one("Images left out, by reason", "short", rate(catalog.IMAGES_SKIPPED, "reason"), "{{reason}}", width=12),
)

ERRORS = (
    _one(
        "Errors a second",
        "short",
        rate(catalog.ERRORS, "component", "error_type"),
        "{{component}}: {{error_type}}",
        width=16,
    ),
    _one("Errors, by part", "short", rate(catalog.ERRORS, "component"), "{{component}}", kind="bargauge"),
)

WORKERS = (
    _one("Workers", "short", total(catalog.CELERY_WORKERS, "worker_type"), "{{worker_type}}", kind="stat"),
    Panel(
        "In hand",
        "short",
        (
            (total(catalog.IN_FLIGHT), "images in flight"),
            (total(catalog.CELERY_ACTIVE, "queue"), "active in {{queue}}"),
            (total(catalog.CELERY_RESERVED, "queue"), "reserved in {{queue}}"),
        ),
    ),
    _one("Leases a second", "short", rate(catalog.LEASES, "event"), "{{event}}"),
    _one("Memory, by role", "bytes", total(catalog.MEMORY, "worker_type"), "{{worker_type}}", width=12),
    _one("Celery's events a second", "short", rate(catalog.CELERY_EVENTS, "event"), "{{event}}", width=12),
)

PARTS = (
    Panel(
        "Redis: memory",
        "bytes",
        ((shared(catalog.REDIS_MEMORY), "as the ledger sees it"), ("redis_memory_used_bytes", "{{instance}}")),
    ),
    Panel(
        "Redis: commands and clients",
        "short",
        (
            ("rate(redis_commands_processed_total[5m])", "commands a second"),
            ("redis_connected_clients", "clients"),
        ),
    ),
    _one(
        "Redis: up, and its file written",
        "bool_yes_no",
        "min by (instance) (redis_up * redis_aof_last_write_status)",
        "{{instance}}",
        kind="stat",
        bad=1,
        low_is_bad=True,
    ),
    _one("Weaviate: objects", "short", "sum by (class_name) (object_count)", "{{class_name}}"),
    _one(
        "Weaviate: batches, 95th percentile",
        "ms",
        "histogram_quantile(0.95, sum by (le, operation) (rate(batch_durations_ms_bucket[5m])))",
        "{{operation}}",
    ),
    _one("Weaviate: heap", "bytes", 'go_memstats_alloc_bytes{job="weaviate"}', "{{instance}}"),
    Panel(
        "Triton: requests a second",
        "short",
        (
            ("sum by (model) (rate(nv_inference_request_success[5m]))", "{{model}}"),
            ("sum by (model) (rate(nv_inference_request_failure[5m]))", "{{model}} failed"),
        ),
    ),
    Panel(
        "Triton: microseconds a request",
        "µs",
        (
            (
                "sum by (model) (rate(nv_inference_queue_duration_us[5m]))"
                " / (sum by (model) (rate(nv_inference_request_success[5m])) > 0)",
                "{{model}} queued",
            ),
            (
                "sum by (model) (rate(nv_inference_compute_infer_duration_us[5m]))"
                " / (sum by (model) (rate(nv_inference_request_success[5m])) > 0)",
                "{{model}} computed",
            ),
        ),
    ),
    _one("Triton: waiting requests", "short", "sum by (model) (nv_inference_pending_request_count)", "{{model}}"),
)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Health", HEALTH),
    ("Flow", FLOW),
    ("Success rates", SUCCESS),
    ("Latency by stage", LATENCY),
    ("Models and efficiency", MODELS),
    ("Dead letters by cause", DEAD),
    ("Errors", ERRORS),
    ("Workers and memory", WORKERS),
    ("Redis, Weaviate, Triton", PARTS),
)
