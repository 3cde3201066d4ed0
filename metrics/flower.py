"""Flower's own metrics under names of ours, so that one endpoint shows them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from errors import PartUnavailable
from metrics.catalog import PREFIX

#: What an OpenMetrics text ends with, once.
OPEN_METRICS_END = b"# EOF\n"
FLOWER_PREFIX = f"{PREFIX}flower_"


class Encoded:
    """Families that are encoded once for each content type, however often they are shown."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families
        self._texts: dict[str, bytes] = {}

    def collect(self) -> list[Family]:
        """What an encoder asks for."""
        return self._families

    def text(self, encode: Callable[[Any], bytes], kind: str) -> bytes:
        """The families as this encoder writes them, with the end that its content type may demand."""
        return self._texts.get(kind) or self._texts.setdefault(kind, encode(self))


def families(text: str) -> list[Family]:
    """What Flower's ``/metrics`` answered, each name with ``weavloader_flower_`` before it (once: Flower's own names
    begin with ``flower_`` already).

    Raises ``PartUnavailable`` for what is no exposition text.
    """
    try:
        return list(_renamed(text_string_to_metric_families(text)))
    except (ValueError, KeyError, IndexError) as error:
        raise PartUnavailable("flower", f"Flower's metrics cannot be read: {error}") from None


def _renamed(found: Iterable[Family]) -> Iterable[Family]:
    for family in found:
        if family.name.endswith("_created"):  # the time of a counter's start clashes with the counter in OpenMetrics
            continue
        renamed = Family(_ours(family.name), family.documentation, family.type)
        renamed.samples = [sample._replace(name=_ours(sample.name)) for sample in family.samples]
        yield renamed


def _ours(name: str) -> str:
    return FLOWER_PREFIX + name.removeprefix("flower_")
