"""What a running stack tells others: its roles by their environment, other terminals by a file in the data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from settings import STACK_FILE, Settings, entries, process_started

#: Sections that other terminals take from their own settings: where things are kept, and logins of sources.
_OWN = ("paths", "sage", "logging")
#: Secrets without which a command in another terminal could not reach the parts.
_NEEDED_SECRETS = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "WEAVIATE_API_KEY")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def environment(settings: Settings) -> dict[str, str]:
    """Every setting that differs from its default, as environment variables for child processes."""
    plain = Settings()
    found = {}
    for entry in entries():
        value = getattr(getattr(settings, entry.section), entry.key)
        if value is not None and value != getattr(getattr(plain, entry.section), entry.key):
            found[entry.env] = _text(value)
    found["WEAVLOADER_DATA_DIR"] = str(settings.paths.data)
    return found


def shared(settings: Settings) -> dict[str, str]:
    """The part of ``environment`` that is written down for other terminals of the same user."""
    told = {entry.env for entry in entries() if entry.section not in _OWN and not entry.secret}
    return {name: value for name, value in environment(settings).items() if name in told or name in _NEEDED_SECRETS}


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for the owner's eyes only; a reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(path)


def announce(settings: Settings, control: Path) -> None:
    """Write the stack file, by which ``settings.load`` finds this stack; ``control`` is supervisor's socket."""
    write_private(
        settings.paths.data / STACK_FILE,
        {
            "pid": os.getpid(),
            "started": process_started(os.getpid()),
            "values": shared(settings),
            "control": str(control),
        },
    )
