"""One frozen settings object, and the only place that reads the environment.

Every value comes from, in this order: an environment variable (of a secret also the file that ``NAME_FILE`` names);
``weavloader.toml`` (``[section] key = value``); the stack that is running on the same data folder (what
``python main.py up`` started and wrote down); the default.
``load()`` returns the values together with where each came from.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from errors import ConfigurationError
from sections import (
    IMAGE_FORMATS,
    PROJECT_ROOT,
    STORE_READ_ONLY,
    Fetch,
    Flower,
    Hub,
    Jobs,
    Keep,
    Logging,
    Metrics,
    Monitor,
    Paths,
    Sage,
    Section,
    Selection,
    Settings,
    Triton,
    Weaviate,
    Web,
    Webhooks,
)

__all__ = [
    "PROJECT_ROOT",
    "Entry",
    "Fetch",
    "Flower",
    "Hub",
    "Jobs",
    "Keep",
    "Loaded",
    "Logging",
    "Metrics",
    "Monitor",
    "Paths",
    "Sage",
    "Selection",
    "Settings",
    "Triton",
    "Weaviate",
    "Web",
    "Webhooks",
    "load",
    "require",
    "version",
]

STACK_FILE = "run/stack.json"
#: The settings in a file.
TOML_FILE = PROJECT_ROOT / "weavloader.toml"
#: Ends the name of a variable that names a file with a secret, as containers mount them.
FILE_SUFFIX = "_FILE"


class Entry(NamedTuple):
    """One setting as `python main.py config` and the README show it."""

    section: str
    key: str
    env: str
    default: str
    help: str
    secret: bool


class Loaded(NamedTuple):
    """The settings and, per environment variable's name, where the value came from."""

    settings: Settings
    origins: Mapping[str, str]


# The part that a running stack describes as a whole: what it wrote down of a part is used only where nobody set that
# part's first name, else the local stack's key would be sent to a user's own server.
_STACK_GROUPS: tuple[tuple[str, ...], ...] = (
    ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
    ("TRITON_HOST", "TRITON_PORT", "WEAVLOADER_CAPTIONER", "WEAVLOADER_EMBEDDER"),
    ("WEAVIATE_HOST", "WEAVIATE_PORT", "WEAVIATE_GRPC_PORT", "WEAVIATE_API_KEY", "WEAVLOADER_COLLECTION"),
)


def _sections() -> dict[str, type[Section]]:
    return {name: type(field.get_default()) for name, field in Settings.model_fields.items()}


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return extra


@cache
def entries() -> tuple[Entry, ...]:
    """Every setting, in the order of the sections."""

    def shown(value: object) -> str:
        return ",".join(str(v) for v in value) if isinstance(value, tuple) else "" if value is None else str(value)

    return tuple(
        Entry(
            section, key, _extra(field)["env"], shown(field.default), field.description or "", _extra(field)["secret"]
        )
        for section, kind in _sections().items()
        for key, field in kind.model_fields.items()
    )


def _toml_values(path: Path) -> dict[str, Any]:
    """The values of ``weavloader.toml`` by environment variable's name."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}. Correct it or remove it.") from None
    known = {(entry.section, entry.key): entry.env for entry in entries()}
    values: dict[str, Any] = {}
    for section, table in document.items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: {section!r} stands outside a [section]; see `python main.py config`.")
        for key, value in table.items():
            if (section, key) not in known:
                raise ConfigurationError(
                    f"{path}: there is no setting {key!r} in [{section}]; `python main.py config` lists them all."
                )
            values[known[section, key]] = tuple(value) if isinstance(value, list) else value
    return values


def process_started(pid: int) -> str:
    """When the process began, as the kernel counts it ('' when there is no such process): tells a reused pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def running_stack(data: Path) -> dict[str, Any] | None:
    """What the stack running on this data folder wrote down, or None when none runs."""
    try:
        stack: dict[str, Any] = json.loads((data / STACK_FILE).read_text("utf-8"))
        alive = process_started(int(stack["pid"])) == stack["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stack if alive else None


def demo_folder(data: Path) -> Path:
    """The demo's data folder, beside the user's own."""
    return data.with_name(data.name.removesuffix("-demo") + "-demo")


def _data_folder(environment: Mapping[str, str], toml: Mapping[str, Any]) -> tuple[Path, str]:
    """The data folder as set or by default; the demo's beside it while only the demo runs."""
    folder, origin = PROJECT_ROOT / ".weavloader", "default"
    for name, values in (("environment", environment), ("weavloader.toml", toml)):
        if values.get("WEAVLOADER_DATA_DIR"):
            folder, origin = PROJECT_ROOT / Path(str(values["WEAVLOADER_DATA_DIR"])).expanduser(), name
            break
    demo = demo_folder(folder)
    if running_stack(folder) is None and running_stack(demo) is not None:
        return demo, "running demo"
    return folder, origin


def _with_secret_files(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The environment with what the files of ``NAME_FILE`` hold, and the files by ``NAME``; a variable goes before its
    file, and an empty file counts as not set.
    """
    filled, files = dict(environment), {}
    for entry in entries():
        file = environment.get(entry.env + FILE_SUFFIX)
        if not entry.secret or environment.get(entry.env) or not file:
            continue
        try:
            filled[entry.env] = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"{entry.env}{FILE_SUFFIX}: {file} cannot be read ({why}). Correct it or unset it."
            ) from None
        files[entry.env] = file
    return filled, files


def load(environment: Mapping[str, str] | None = None, toml_file: Path | None = None) -> Loaded:
    """Read all settings.

    Raises ``ConfigurationError`` naming the variable, what is wrong with it and where it was set.
    """
    environment, files = _with_secret_files(os.environ if environment is None else environment)
    toml_file = toml_file or TOML_FILE
    toml = _toml_values(toml_file)
    data, data_origin = _data_folder(environment, toml)
    stack_values: dict[str, Any] = dict((running_stack(data) or {}).get("values", {}))
    given = {entry.env for entry in entries() if environment.get(entry.env) or entry.env in toml}
    for group in _STACK_GROUPS:
        if group[0] in given:
            for name in group:
                stack_values.pop(name, None)

    cache_home = environment.get("XDG_CACHE_HOME")
    values: dict[str, dict[str, Any]] = {name: {} for name in _sections()}
    origins: dict[str, str] = {}
    for entry in entries():
        if environment.get(entry.env):  # an empty variable counts as not set, as compose files write them
            values[entry.section][entry.key], origins[entry.env] = (
                environment[entry.env],
                files.get(entry.env, "environment"),
            )
        elif entry.env in toml:
            values[entry.section][entry.key], origins[entry.env] = toml[entry.env], toml_file.name
        elif entry.env in stack_values:
            values[entry.section][entry.key], origins[entry.env] = stack_values[entry.env], "running stack"
        else:
            origins[entry.env] = "default"
    values["paths"]["data"], origins["WEAVLOADER_DATA_DIR"] = data, data_origin
    if "cache" not in values["paths"] and cache_home:
        values["paths"]["cache"], origins["WEAVLOADER_CACHE_DIR"] = Path(cache_home) / "weavloader", "XDG_CACHE_HOME"
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origins)) from None
    _check(settings, origins)
    return Loaded(settings, MappingProxyType(origins))


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    names = {(entry.section, entry.key): entry for entry in entries()}
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        entry = names[str(problem["loc"][0]), str(problem["loc"][1])]
        lines.append(f"{entry.env} (from {origins[entry.env]}): {_said(problem)} ({entry.help})")
    return "; ".join(lines) + ". Correct it or unset it."


def _said(problem: Mapping[str, Any]) -> str:
    """What is wrong, in pydantic's words with a small letter, or in our own validators' as they stand."""
    own = problem.get("ctx", {}).get("error")
    return str(own) if isinstance(own, ValueError) else str(problem["msg"]).lower()


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    """What a type cannot say."""

    def refuse(env: str, why: str) -> None:
        raise ConfigurationError(f"{env} (from {origins[env]}): {why}")

    if settings.logging.level.upper() not in _LEVELS:
        refuse("LOG_LEVEL", f"{settings.logging.level!r} is not one of {', '.join(_LEVELS)}")
    if settings.logging.format not in ("console", "json"):
        refuse("WEAVLOADER_LOG_FORMAT", f"{settings.logging.format!r} is neither console nor json")
    for env, url in (
        ("CELERY_BROKER_URL", settings.jobs.broker_url),
        ("CELERY_RESULT_BACKEND", settings.jobs.result_backend),
    ):
        if url and urlsplit(url).scheme not in ("redis", "rediss", "sentinel"):
            scheme = urlsplit(url).scheme or "no scheme"
            refuse(
                env, f"the URL has {scheme}; use redis://, rediss:// or sentinel:// (the ledger needs Redis or Valkey)"
            )
    for env, url in (
        ("WEAVLOADER_SAGE_QUERY_URL", settings.sage.query_url),
        ("WEAVLOADER_SAGE_STORAGE_URL", settings.sage.storage_url),
        ("WEAVLOADER_SAGE_MANIFEST_URL", settings.sage.manifest_url),
    ):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            refuse(env, "it is not an http:// or https:// URL")
    if settings.sage.user and not settings.sage.password:
        refuse("SAGE_PASS", "SAGE_USER is set but SAGE_PASS is not")
    if settings.flower.basic_auth and ":" not in settings.flower.basic_auth:
        refuse("FLOWER_BASIC_AUTH", "it must be user:password")
    if settings.web.read_token and settings.web.read_token == settings.web.admin_token:
        refuse("WEAVLOADER_WEB_ADMIN_TOKEN", "it must differ from WEAVLOADER_WEB_READ_TOKEN")
    if settings.flower.url and urlsplit(settings.flower.url).scheme not in ("http", "https"):
        refuse("WEAVLOADER_FLOWER_URL", "it is not an http:// or https:// URL")
    for env, url in (
        ("HF_ENDPOINT", settings.hub.endpoint),
        ("WEAVLOADER_PROMETHEUS_URL", settings.metrics.prometheus_url),
        ("WEAVLOADER_WEB_URL", settings.web.url),
    ):
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            refuse(env, "it is not an http:// or https:// URL")
    if "@" in urlsplit(settings.hub.endpoint).netloc:
        refuse("HF_ENDPOINT", "it has a login, which no hub is sent: leave that out, and set HF_TOKEN to a token")
    if any(not re.search(r":[0-9]+$", host) for host in settings.webhooks.hosts):
        refuse("WEAVLOADER_WEBHOOK_HOSTS", "each is host:port, for example 10.0.0.7:8443")
    unknown = [name for name in settings.fetch.formats if name.upper() not in IMAGE_FORMATS]
    if unknown or not settings.fetch.formats:
        refuse(
            "WEAVLOADER_IMAGE_FORMATS",
            f"{', '.join(unknown) or 'nothing'} is not among {', '.join(IMAGE_FORMATS)}",
        )
    if settings.keep.disk >= STORE_READ_ONLY:
        refuse(
            "WEAVLOADER_KEEP_DISK",
            f"{settings.keep.disk:g} is not below {STORE_READ_ONLY:g}, from where on the store is read-only and refuses"
            " deletions too: give 0.85, for example, or 0 for never",
        )
    if settings.jobs.stop >= settings.jobs.stop_limit:
        refuse(
            "WEAVLOADER_STOP_SECONDS",
            f"it must be below WEAVLOADER_STOP_LIMIT ({settings.jobs.stop_limit}), when a role is ended by force",
        )
    if settings.jobs.visibility_timeout <= settings.jobs.timeout:
        refuse("WEAVLOADER_VISIBILITY_TIMEOUT", "it must be longer than WEAVLOADER_JOB_TIMEOUT, else jobs run twice")


_SECRET_QUERY = re.compile(r"(?<=[?&])((?:sentinel_)?password=)[^&;]*")


def without_password(url: str) -> str:
    """The URL as it may be shown: user and password replaced by ***, in each part of a list of Sentinels too."""

    def hidden(part: str) -> str:
        found = urlsplit(part)
        if "@" not in found.netloc:
            return part
        return urlunsplit(found._replace(netloc="***@" + found.netloc.rpartition("@")[2]))

    return _SECRET_QUERY.sub(r"\1***", ";".join(hidden(part) for part in url.split(";")))


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The values that no log line may hold."""
    values = (str(getattr(getattr(settings, entry.section), entry.key)) for entry in entries() if entry.secret)
    return tuple(value for value in values if value)


def require(settings: Settings, *parts: str) -> Settings:
    """The settings, when every named part (``redis``, ``triton``, ``weaviate``) is known.

    Raises ``ConfigurationError`` naming the missing setting and the remedy.
    """
    missing = {
        "redis": ("CELERY_BROKER_URL", settings.jobs.broker_url),
        "triton": ("TRITON_HOST", settings.triton.host),
        "weaviate": ("WEAVIATE_HOST", settings.weaviate.host),
    }
    names = [missing[part][0] for part in parts if not missing[part][1]]
    if names:
        raise ConfigurationError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not set and no stack is running on"
            f" {settings.paths.data}: set {'it' if len(names) == 1 else 'them'}, or start `python main.py up` first."
        )
    return settings


@cache
def version() -> str:
    """The product's version."""
    return str(tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def process_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with some names set: what a child process is started with."""
    return {**os.environ, **extra}


def export(name: str, value: str) -> None:
    """Set a variable for this process's own libraries (those that read the environment when imported)."""
    os.environ[name] = value


def environment_variable(name: str) -> str:
    """A variable that is not a setting of ours (PATH, CI, …); '' when it is not set."""
    return os.environ.get(name, "")
