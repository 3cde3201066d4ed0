"""Flower as another process finds it: its address, and the metrics that it serves."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from errors import PartUnavailable
from sections import local_host
from settings import Settings

ANSWER_SECONDS = 3.0
#: Bytes beyond which an answer is not taken: some 10,000 series.
LARGEST_ANSWER = 4 * 2**20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The login goes to Flower alone, wherever it points to."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def flower_url(settings: Settings) -> str:
    """Where Flower is, with its prefix: ``http://127.0.0.1:5555/flower/``."""
    section = settings.flower
    base = section.url.rstrip("/") or f"http://{local_host(section.host)}:{section.port}"
    return base + section.path


def flower_metrics(settings: Settings) -> Callable[[], str]:
    """What asks the running Flower for its metrics; it raises ``PartUnavailable`` where Flower does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    address = flower_url(settings) + "metrics"

    def ask() -> str:
        from job_system import flower_config

        request = urllib.request.Request(address)
        if login := flower_config.known_login(settings):
            request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                text = answer.read(LARGEST_ANSWER + 1)
        except urllib.error.HTTPError as refused:
            with refused:
                raise PartUnavailable("flower", f"Flower at {address} answered {refused.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise PartUnavailable("flower", f"Flower at {address} does not answer ({error})") from None
        if len(text) > LARGEST_ANSWER:
            raise PartUnavailable("flower", f"Flower at {address} has more than {LARGEST_ANSWER} bytes of metrics")
        return str(text.decode("utf-8", "replace"))

    return ask
