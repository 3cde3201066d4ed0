"""The periodic look at everything a job needs: canaries, dead letters, disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Coroutine
from typing import Any

import logs
from errors import WeavloaderError
from ledger import Ledger
from metrics import recorder
from records import PartState
from settings import Settings, Triton, Weaviate

log = logs.get(__name__)

#: Share of the data folder's disk beyond which the report is not good (Weaviate becomes read-only at 90%).
FULL_DISK = 0.85

WaitFor = Callable[[Coroutine[Any, Any, PartState]], PartState]


def report(settings: Settings, ledger: Ledger, wait_for: WaitFor) -> dict[str, Any]:
    """``{"parts": {name: {"ok", "detail"}}, "dead_letters": n, "disk_used": share}``; what is bad is logged."""
    parts = {"redis": _state("redis", lambda: _redis(ledger))}
    if settings.triton.host:
        parts["triton"] = _state("triton", lambda: wait_for(_triton(settings.triton)))
    if settings.weaviate.host:
        parts["weaviate"] = _state("weaviate", lambda: wait_for(_weaviate(settings.weaviate)))
    settings.paths.data.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(settings.paths.data)
    used = round(disk.used / disk.total, 3)
    for name, state in parts.items():
        if not state.ok:
            log.error("part is not well", part=name, detail=state.detail)
    if used > FULL_DISK:
        log.error("disk is nearly full", folder=str(settings.paths.data), used=used)
    letters = ledger.letters.count()
    log.info("health", letters=letters, disk_used=used, **{name: state.ok for name, state in parts.items()})
    return {
        "parts": {name: {"ok": state.ok, "detail": state.detail} for name, state in parts.items()},
        "dead_letters": letters,
        "disk_used": used,
    }


def _state(part: str, ask: Callable[[], PartState]) -> PartState:
    try:
        return ask()
    except WeavloaderError as error:
        recorder.error(part, error)
        return PartState(False, str(error), "")


def _redis(ledger: Ledger) -> PartState:
    return PartState(True, "; ".join(ledger.check_server()) or "answers", "")


async def _triton(section: Triton) -> PartState:
    from inference import TritonConnection, canary, open_captioner, open_embedder

    connection = TritonConnection(section)
    try:
        state: PartState = await canary(
            connection, open_captioner(section, connection), open_embedder(section, connection)
        )
        return state
    finally:
        await connection.close()


async def _weaviate(section: Weaviate) -> PartState:
    from client import WeaviateStore

    store = WeaviateStore(section)
    try:
        state: PartState = await store.canary()
        return state
    finally:
        await store.close()
