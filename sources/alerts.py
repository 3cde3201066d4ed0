"""The alerts of a Prometheus, as its HTTP API tells them (``/api/v1/alerts``)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from errors import PartUnavailable
from sources import transport

#: Seconds that Prometheus may take, and the most bytes of its answer.
ANSWER_SECONDS = 10.0
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """An alert that fires; ``active_at`` is when its condition was first met, as Prometheus writes times."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    active_at: str

    @property
    def fingerprint(self) -> str:
        """What tells it from others: its labels."""
        return json.dumps(dict(self.labels), sort_keys=True, separators=(",", ":"))


async def firing_alerts(address: str) -> list[FiringAlert]:
    """The alerts that fire now. The address is the operator's own, so it may be private.

    Raises ``PartUnavailable`` (``prometheus``) when it does not answer, or not as Prometheus does.
    """
    url = f"{address.rstrip('/')}/api/v1/alerts"
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(MOST_BYTES)
            while len(body) < MOST_BYTES and (more := await answer.content.read(MOST_BYTES - len(body))):
                body += more
    except (*transport.ERRORS, ValueError) as error:
        raise _unavailable(address, transport.reason(error)) from None
    try:
        told: Any = json.loads(body)
        return [_alert(one) for one in told["data"]["alerts"] if one["state"] == "firing"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unavailable(address, f"status {answer.status}, which is not what Prometheus answers") from None


def _alert(told: Mapping[str, Any]) -> FiringAlert:
    labels, annotations = (
        {str(name): str(value) for name, value in told.get(kind, {}).items()} for kind in ("labels", "annotations")
    )
    return FiringAlert(labels, annotations, str(told.get("activeAt", "")))


def _unavailable(address: str, why: str) -> PartUnavailable:
    return PartUnavailable(
        "prometheus",
        f"Prometheus at {transport.shown(address)} does not tell its alerts ({why}): start it, or correct"
        " WEAVLOADER_PROMETHEUS_URL",
    )
