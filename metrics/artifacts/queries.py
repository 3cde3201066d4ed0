"""Queries that rules and panels share.

What this host's processes count is summed over all endpoints. What is cluster-wide stands in each host's endpoint with
the same value: the greatest is taken, never the sum.
"""

from __future__ import annotations

from metrics import catalog
from metrics.catalog import Metric

#: Over how long rates are taken.
WINDOW = "5m"
IMAGE_TASK = 'task="process_image_task"'
#: The stages that wait for models, and all stages that follow one another (decoding is a part of preparing).
MODEL_STAGES = "caption|embed_image|embed_text"
STAGES = f"fetch|locate|prepare|{MODEL_STAGES}|land"
WENT_WELL = "success|landed|skipped|duplicate"


def rate(metric: Metric, *by: str, where: str = "", suffix: str = "", window: str = WINDOW) -> str:
    """Events a second, summed over all processes, by these labels."""
    series = f"{metric.name}{suffix}{{{where}}}" if where else f"{metric.name}{suffix}"
    return f"{_sum(by)}(rate({series}[{window}]))"


def increase(metric: Metric, *by: str, where: str = "", window: str) -> str:
    """Events in a time, summed over all processes, by these labels."""
    series = f"{metric.name}{{{where}}}" if where else metric.name
    return f"{_sum(by)}(increase({series}[{window}]))"


def total(metric: Metric, *by: str, where: str = "") -> str:
    """A gauge of each host's, summed."""
    return f"{_sum(by)}({_series(metric, where)})"


def shared(metric: Metric, *by: str, where: str = "") -> str:
    """A cluster-wide gauge."""
    return f"max{_by(by)}({_series(metric, where)})"


def least(metric: Metric, *by: str, where: str = "") -> str:
    """The smallest of a gauge: a part is down where one host cannot reach it."""
    return f"min{_by(by)}({_series(metric, where)})"


def quantile(share: float, metric: Metric, *by: str, where: str = "") -> str:
    """Of a histogram: the seconds within which this share of all stayed."""
    return f"histogram_quantile({share}, {rate(metric, 'le', *by, where=where, suffix='_bucket')})"


def ratio(part: str, whole: str) -> str:
    """The part of the whole; nothing where the whole is nothing."""
    return f"{part} / ({whole} > 0)"


def _series(metric: Metric, where: str) -> str:
    return f"{metric.name}{{{where}}}" if where else metric.name


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _sum(labels: tuple[str, ...]) -> str:
    return f"sum{_by(labels)}"


RECEIVED = rate(catalog.IMAGES_RECEIVED)
LANDED = rate(catalog.TASKS, where=f'{IMAGE_TASK},outcome="landed"')
FAILED = rate(catalog.DEAD_LETTERED)
MODELS_SHARE = ratio(
    rate(catalog.STAGE_DURATION, where=f'stage=~"{MODEL_STAGES}"', suffix="_sum"),
    rate(catalog.STAGE_DURATION, where=f'stage=~"{STAGES}"', suffix="_sum"),
)
_FAILED_POST = 'outcome=~"retry|dead"'
#: Attempts at webhooks that failed, of all: a receiver that is away is tried by one delivery at a time.
WEBHOOKS_FAILING = "({} or vector(0))".format(
    ratio(
        increase(catalog.WEBHOOK_POSTS, where=_FAILED_POST, window="30m"),
        increase(catalog.WEBHOOK_POSTS, where='outcome=~"delivered|retry|dead"', window="30m"),
    )
)
#: By the gauge, which is there before the first of them is.
WEBHOOKS_DIED = f"max(delta({catalog.WEBHOOKS_DEAD.name}[1h]))"
