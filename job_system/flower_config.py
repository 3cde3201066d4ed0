"""Flower's settings: where it listens and what it asks for. Plain ``celery flower`` reads the root ``flowerconfig.py``,
which takes everything from here.
"""

from __future__ import annotations

import copy
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click

import logs
from errors import ConfigurationError
from job_system.app import CommandConfigurationError
from settings import PROJECT_ROOT, Settings, load, require, secrets_of

CONFIGURATION = PROJECT_ROOT / "flowerconfig.py"
USER = "weavloader"
SHOWN_ONCE = "Flower's login, shown this once and kept in the data folder"
#: Between two savings of what Flower knows, where it is to be kept; it is saved at its end too.
SAVE_MILLISECONDS = 60_000


def login(settings: Settings) -> str:
    """``user:password``: FLOWER_BASIC_AUTH, or a password made at the first start and kept in the data folder, readable
    by its owner only. Whoever starts Flower shows it.
    """
    if settings.flower.basic_auth:
        return settings.flower.basic_auth
    return f"{USER}:{_kept_password(password_file(settings))}"


def known_login(settings: Settings) -> str:
    """The login where there is one by now; '' before Flower's first start."""
    made = settings.flower.basic_auth or password_file(settings).exists()
    return login(settings) if made else ""


def password_file(settings: Settings) -> Path:
    """Where the made password is kept."""
    return settings.paths.data / "flower.password"


def _kept_password(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".flower.password.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError:
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(18) + "\n", "utf-8")
    try:
        os.link(draft, file)  # of several first starts at once one wins, and its file is whole
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return file.read_text("utf-8").strip()


def hide_arguments(task: Any) -> Any:
    """A task as Flower shows it: without its arguments, which hold the images' addresses."""
    shown = copy.copy(task)
    shown.args = shown.kwargs = ""
    return shown


def required() -> Settings:
    """The settings, for a Flower that starts. Raises ``CommandConfigurationError`` where no broker is known."""
    try:
        return require(load().settings, "redis")
    except ConfigurationError as error:
        raise CommandConfigurationError(str(error)) from None


def prepare(settings: Settings) -> None:
    """What must be there before Flower starts: the folder of what it keeps, and our logging. Flower's lines are as all
    others: a plain ``celery flower`` has tornado's handler by now, and shows it no more.

    A login that is made now is shown this once where a person looks on; a log is told where it is kept.
    """
    made = not known_login(settings)
    if settings.flower.persistent:
        (settings.paths.data / "flower").mkdir(mode=0o700, parents=True, exist_ok=True)
    logging.getLogger().handlers.clear()
    logs.configure(settings.logging, "MAIN", secrets=[*secrets_of(settings), login(settings)])
    if made and sys.stderr.isatty():
        click.echo(f"{SHOWN_ONCE}: {login(settings)}", err=True)
    elif made:
        logs.get(__name__).info("a login was made for Flower", file=str(password_file(settings)))


def options(settings: Settings) -> dict[str, Any]:
    """Flower's options by name."""
    return {
        "address": settings.flower.host,
        "port": settings.flower.port,
        "basic_auth": [login(settings)],
        "logging": "none",  # tornado leaves formatter and level alone
        "url_prefix": settings.flower.prefix or None,
        **_persistence(settings),
        "format_task": hide_arguments,
        "max_tasks": 5000,
        "purge_offline_workers": 60,
        "tasks_columns": "name,uuid,state,result,received,started,runtime,worker",
    }


def _persistence(settings: Settings) -> dict[str, Any]:
    """Where what Flower knows outlives it, for its owner's eyes only."""
    if not settings.flower.persistent:
        return {"persistent": False}
    folder = settings.paths.data / "flower"
    return {"persistent": True, "db": str(folder / "state"), "state_save_interval": SAVE_MILLISECONDS}


def __getattr__(name: str) -> Any:
    """``basic_auth`` and the other options, read when they are asked for: importing the module makes no
    password.
    """
    if name.startswith("_"):
        raise AttributeError(name)
    values = options(load().settings)
    if name not in values:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return values[name]
