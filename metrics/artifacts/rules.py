"""Recording rules, and alerts with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from metrics import catalog
from metrics.artifacts import queries
from metrics.artifacts.queries import increase, least, quantile, rate, ratio, shared, total

_SEEN = shared(catalog.LEDGER_IMAGES, where='state="seen"')
_OTHERS = shared(catalog.LEDGER_IMAGES, "state", where='state!="seen"')
_POISONED = increase(catalog.DEAD_LETTERED, where='kind="poison"', window="1h")

RECORDED: dict[str, str] = {
    "weavloader:received:rate5m": queries.RECEIVED,
    "weavloader:landed:rate5m": queries.LANDED,
    "weavloader:tasks_success:ratio5m": ratio(
        rate(catalog.TASKS, "task", where=f'outcome=~"{queries.WENT_WELL}"'), rate(catalog.TASKS, "task")
    ),
    "weavloader:images_landed:ratio5m": ratio(
        queries.LANDED, rate(catalog.TASKS, where=f'{queries.IMAGE_TASK},outcome=~"landed|failure"')
    ),
    "weavloader:stage_seconds:p95": quantile(0.95, catalog.STAGE_DURATION, "stage"),
    "weavloader:models_share:ratio5m": queries.MODELS_SHARE,
    "weavloader:efficiency:ratio5m": f"max(avg_over_time({catalog.EFFICIENCY.name}[5m]))",
    "weavloader:backlog:images": shared(catalog.LEDGER_IMAGES, where='state="pending"'),
    "weavloader:ledger_difference:images": (_SEEN + f" - sum({_OTHERS})"),
}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. ``query`` has a value at all times; it fires while that meets ``condition`` for so long."""

    name: str
    query: str
    condition: str
    lasts: str
    severity: Literal["warning", "critical"]
    summary: str
    remedy: str


ALERTS = (
    Alert(
        "StreamSilent",
        f"min by (source) ({catalog.SOURCE_POLL_AGE.name})",
        "> 900",
        "1m",
        "critical",
        "source {{ $labels.source }} was last polled {{ $value | humanizeDuration }} ago",
        "see that a stream and a moderator run: `python main.py status`",
    ),
    Alert(
        "NothingNew",
        f"max(delta({catalog.LEDGER_IMAGES.name}" + '{state="seen"}[1h]))',
        "== 0",
        "15m",
        "warning",
        "no source gave a new image for an hour",
        "`python main.py status` tells what the last poll of each source said",
    ),
    Alert(
        "SourceFails",
        shared(catalog.SOURCE_FAILED, "source"),
        "== 1",
        "10m",
        "critical",
        "source {{ $labels.source }} cannot be polled",
        "`python main.py status` tells why; correct its address, its login or the network",
    ),
    Alert(
        "SourcePaused",
        shared(catalog.SOURCE_PAUSED, "source"),
        "== 1",
        "5m",
        "critical",
        "source {{ $labels.source }} refuses the login and is paused",
        "correct SAGE_USER and SAGE_PASS; nothing is lost meanwhile",
    ),
    Alert(
        "BacklogOld",
        shared(catalog.OLDEST_JOB),
        "> 900",
        "5m",
        "warning",
        "the oldest image in the queue waits for {{ $value | humanizeDuration }}",
        "start more processors, or see what is slow: the dashboard's latency by stage",
    ),
    Alert(
        "DeadLetters",
        ratio(
            f"({increase(catalog.DEAD_LETTERED, window='30m')} or vector(0))",
            increase(catalog.TASKS, where=f'{queries.IMAGE_TASK},outcome=~"landed|failure"', window="30m"),
        ),
        "> 0.05",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} of the images become dead letters",
        "`python main.py dlq stats` tells the causes, `dlq replay` puts letters back to work",
    ),
    Alert(
        "PoisonImage",
        f"({_POISONED} or vector(0))",
        "> 0",
        "0m",
        "warning",
        "an image kills the workers or models that have it in hand",
        "look at it before replaying it: `python main.py dlq list --cause poison`",
    ),
    Alert(
        "PartDown",
        least(catalog.COMPONENT_HEALTH, "component"),
        "== 0",
        "2m",
        "critical",
        "{{ $labels.component }} does not answer its canary",
        "`python main.py doctor` names the remedy; images wait and nothing is lost",
    ),
    Alert(
        "EndpointDown",
        'min by (instance) (up{job="weavloader"})',
        "== 0",
        "2m",
        "critical",
        "the metrics endpoint {{ $labels.instance }} does not answer",
        "see that `python main.py metrics` runs there",
    ),
    Alert(
        "CircuitOpen",
        total(catalog.CIRCUITS, "part", where='state="open"'),
        "> 0",
        "5m",
        "warning",
        "{{ $value }} processes count {{ $labels.part }} as away: their images wait",
        "`python main.py status` tells what {{ $labels.part }} answers",
    ),
    Alert(
        "EfficiencyLow",
        "weavloader:efficiency:ratio5m",
        "< 0.8 and on() weavloader:backlog:images > 100",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of what the models give at most lands, though images wait",
        "the dashboard's latency by stage shows what holds them up: start another processor where its core is full;"
        " where the model server has changed, `python main.py calibrate` again while no image is in work",
    ),
    Alert(
        "ModelsIdle",
        "weavloader:models_share:ratio5m",
        "< 0.3 and on() weavloader:backlog:images > 100",
        "15m",
        "warning",
        "images spend {{ $value | humanizePercentage }} of their time at the models: something else holds them up",
        "the dashboard's latency by stage shows what is slow",
    ),
    Alert(
        "WebhooksFail",
        queries.WEBHOOKS_FAILING,
        "> 0.5",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the posts to webhooks fail",
        "`python main.py watch list` names the watch and the error; nothing is lost before the last retry",
    ),
    Alert(
        "WebhooksDie",
        queries.WEBHOOKS_DIED,
        "> 0",
        "0m",
        "warning",
        "posts to webhooks become dead letters",
        "`python main.py watch dead list` tells the causes, `watch dead replay` posts them again",
    ),
    Alert(
        "WebhooksStuck",
        shared(catalog.WEBHOOKS_OVERDUE),
        "> 300",
        "5m",
        "warning",
        "a post to a webhook is due since {{ $value | humanizeDuration }}",
        "see that a cleaner runs, which posts: `python main.py doctor`",
    ),
    Alert(
        "ReindexStands",
        f'(max(sum without (place) (changes({catalog.REINDEX_IMAGES.name}{{place=~"left|copied|missing"}}[1h])))'
        " or vector(1))",
        "== 0",
        "15m",
        "warning",
        "a reindex is under way and copied nothing for an hour, while all that lands is kept in mind for it",
        "`python main.py reindex` goes on with it, `reindex --cancel` ends it; `doctor` tells whether it runs",
    ),
    Alert(
        "DiskNearReadOnly",
        f"max by (instance, folder) ({catalog.DISK_USED.name})",
        "> 0.85",
        "5m",
        "critical",
        "the disk of {{ $labels.folder }} on {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
        "make room: from 90% on Weaviate takes no writes and images wait",
    ),
    Alert(
        "LedgerDifference",
        "weavloader:ledger_difference:images",
        "!= 0",
        "10m",
        "critical",
        "the ledger's states do not add up: {{ $value }} images",
        "`python main.py audit --deep` compares it with the store",
    ),
)


def recording_rules() -> dict[str, Any]:
    """The file of the recording rules."""
    rules = [{"record": name, "expr": query} for name, query in RECORDED.items()]
    return {"groups": [{"name": "weavloader", "rules": rules}]}


def alert_rules() -> dict[str, Any]:
    """The file of the alerts."""
    rules = [
        {
            "alert": f"Weavloader{alert.name}",
            "expr": f"{alert.query} {alert.condition}",
            "for": alert.lasts,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "remedy": alert.remedy},
        }
        for alert in ALERTS
    ]
    return {"groups": [{"name": "weavloader-alerts", "rules": rules}]}
