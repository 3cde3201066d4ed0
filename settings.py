"""One frozen settings object, and the only place that reads the environment.

Every value comes from, in this order: an environment variable; ``weavloader.toml`` (``[section] key = value``); the
stack that is running on the same data folder (what ``python main.py up`` started and wrote down); the default.
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
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from errors import ConfigurationError

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
PROJECT_ROOT = Path(__file__).resolve().parent
STACK_FILE = "run/stack.json"
#: What supervisord.conf gives a role to stop.
LONGEST_STOP = 8


def _split(value: object) -> object:
    """A comma list as it stands in an environment variable: trimmed, empty items dropped."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _path(value: object) -> object:
    """Paths are taken from the project's folder, so that a command works from any working directory."""
    if isinstance(value, (str, Path)) and str(value):
        return PROJECT_ROOT / Path(value).expanduser()
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Few = Annotated[int, Field(ge=0)]
Delays = Annotated[tuple[Seconds, ...], BeforeValidator(_split)]
Port = Annotated[int, Field(ge=1, le=65535)]
Folder = Annotated[Path, BeforeValidator(_path)]


def setting(default: Any, env: str, help: str, *, secret: bool = False) -> Any:
    """A field with the environment variable that sets it and one line of help."""
    extra: dict[str, Any] = {"env": env, "secret": secret}
    return Field(default, description=help, validate_default=True, repr=not secret, json_schema_extra=extra)


class Section(BaseModel):
    """A group of settings that one adapter receives."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Paths(Section):
    """Where files are kept."""

    data: Folder = setting(".weavloader", "WEAVLOADER_DATA_DIR", "folder of the embedded stack's data, logs and state")
    cache: Folder = setting(
        "~/.cache/weavloader",
        "WEAVLOADER_CACHE_DIR",
        "folder of what set-up downloads or builds once per user (XDG_CACHE_HOME is honoured)",
    )


class Sage(Section):
    """The SAGE data stream."""

    user: str = setting("", "SAGE_USER", "login for the image storage; without it SAGE is not polled")
    poll: bool = setting(True, "WEAVLOADER_SAGE_POLL", "poll SAGE (the demo does not, whatever login is set)")
    password: str = setting("", "SAGE_PASS", "password of that login", secret=True)
    query_url: str = setting(
        "https://data.sagecontinuum.org/api/v1/query", "WEAVLOADER_SAGE_QUERY_URL", "the data query API"
    )
    storage_url: str = setting(
        "https://storage.sagecontinuum.org", "WEAVLOADER_SAGE_STORAGE_URL", "the image storage, which gets the login"
    )
    manifest_url: str = setting(
        "https://auth.sagecontinuum.org/manifests/", "WEAVLOADER_SAGE_MANIFEST_URL", "the node manifests"
    )
    task_filter: str = setting("imagesampler-.*", "WEAVLOADER_SAGE_TASKS", "regular expression of the tasks to query")
    unallowed_nodes: Words = setting((), "UNALLOWED_NODES", "comma list of nodes (vsn or node id) to leave out")


class Monitor(Section):
    """How sources are polled."""

    start_back: Seconds = setting(
        300, "WEAVLOADER_START_BACK", "seconds before now at which a source's first poll begins"
    )
    overlap: Seconds = setting(900, "WEAVLOADER_OVERLAP", "seconds before the cursor that every poll reads again")
    poll_busy: Limit = setting(15, "WEAVLOADER_POLL_BUSY", "seconds between polls while there is data")
    poll_idle: Limit = setting(120, "WEAVLOADER_POLL_IDLE", "seconds between polls that an idle stream grows to")
    manifest_ttl: Seconds = setting(3600, "WEAVLOADER_MANIFEST_TTL", "seconds for which a node's manifest is kept")
    timeout: Limit = setting(60, "WEAVLOADER_QUERY_TIMEOUT", "seconds that one query of a source may take")


class Fetch(Section):
    """How images are fetched and what is accepted."""

    timeout: Limit = setting(
        60, "WEAVLOADER_FETCH_TIMEOUT", "seconds that fetching one image may take, redirects included"
    )
    max_bytes: Count = setting(64 * 2**20, "WEAVLOADER_MAX_IMAGE_BYTES", "largest image in bytes")
    bytes_in_flight: Count = setting(
        512 * 2**20, "WEAVLOADER_BYTES_IN_FLIGHT", "bytes of images that one processor holds at once"
    )
    max_pixels: Count = setting(100_000_000, "WEAVLOADER_MAX_IMAGE_PIXELS", "largest image in pixels (width x height)")
    formats: Words = setting(
        _FORMATS,
        "WEAVLOADER_IMAGE_FORMATS",
        "comma list of accepted image formats",
    )
    allowed_hosts: Words = setting(
        ("storage.sagecontinuum.org", "nrdstor.nationalresearchplatform.org"),
        "WEAVLOADER_ALLOWED_HOSTS",
        "comma list of hosts that images may come from or be redirected to",
    )
    max_redirects: Few = setting(3, "WEAVLOADER_MAX_REDIRECTS", "redirects that are followed for one image")
    connections_per_host: Count = setting(32, "WEAVLOADER_CONNECTIONS_PER_HOST", "connections at once to one host")


class Jobs(Section):
    """The job system: broker, pool, retries, leases."""

    broker_url: str = setting(
        "",
        "CELERY_BROKER_URL",
        "redis://, rediss:// or sentinel:// URL; without it `up` starts a local Valkey",
        secret=True,
    )
    result_backend: str = setting(
        "", "CELERY_RESULT_BACKEND", "where results are kept (the broker unless set)", secret=True
    )
    redis_port: Port = setting(6379, "WEAVLOADER_REDIS_PORT", "port of the embedded Valkey")
    in_flight: Count = setting(64, "WEAVLOADER_IN_FLIGHT", "images in flight in one processor")
    prepare_threads: Count = setting(2, "WEAVLOADER_PREPARE_THREADS", "threads that decode images in one processor")
    timeout: Limit = setting(600, "WEAVLOADER_JOB_TIMEOUT", "seconds that one attempt at an image may take")
    retry_delays: Delays = setting(
        (60, 120, 240), "WEAVLOADER_RETRY_DELAYS", "seconds before each retry; their number is the retries"
    )
    retry_cap: Seconds = setting(600, "WEAVLOADER_RETRY_CAP", "longest delay before a retry, jitter included")
    retry_jitter: Seconds = setting(
        0.2, "WEAVLOADER_RETRY_JITTER", "share of a delay that is random (0.2: up to 20% longer)"
    )
    pause: Seconds = setting(30, "WEAVLOADER_PAUSE", "seconds that a job waits while a part is unavailable")
    lease: Annotated[float, Field(ge=1, allow_inf_nan=False)] = setting(
        20, "WEAVLOADER_LEASE", "seconds after which the lease of a silent worker runs out"
    )
    sweep: Limit = setting(5, "WEAVLOADER_SWEEP", "seconds between sweeps of the ledger")
    lost_after: Seconds = setting(
        60,
        "WEAVLOADER_LOST_AFTER",
        "seconds by which a queued image may be overtaken before its message counts as lost",
    )
    visibility_timeout: Limit = setting(
        3600, "WEAVLOADER_VISIBILITY_TIMEOUT", "seconds after which the broker delivers an unacknowledged message again"
    )
    stop: Seconds = setting(
        4,
        "WEAVLOADER_STOP_SECONDS",
        "seconds for which a stopping worker lets its jobs finish before it hands them back",
    )
    finished_days: Limit = setting(
        30, "WEAVLOADER_FINISHED_DAYS", "days for which finished images are remembered in Redis"
    )
    dead_letter_days: Limit = setting(30, "WEAVLOADER_DEAD_LETTER_DAYS", "days for which a dead letter is kept")
    reprocess_days: Seconds = setting(
        7, "WEAVLOADER_REPROCESS_DAYS", "days for which a transient dead letter is retried daily by itself"
    )
    allow_unsafe_redis: bool = setting(
        False, "WEAVLOADER_ALLOW_UNSAFE_REDIS", "start on a Redis that evicts keys or has no persistence"
    )


class Triton(Section):
    """The model server."""

    host: str = setting("", "TRITON_HOST", "model server; without it `up` starts a local Triton")
    port: Port = setting(8001, "TRITON_PORT", "its gRPC port")
    http_port: Port = setting(8003, "WEAVLOADER_TRITON_HTTP_PORT", "HTTP port of the embedded Triton")
    metrics_port: Port = setting(8002, "WEAVLOADER_TRITON_METRICS_PORT", "metrics port of the embedded Triton")
    captioner: str = setting(
        "light_captioner",
        "WEAVLOADER_CAPTIONER",
        "model that captions: light_captioner, gemma3, qwen2_5_vl or florence2base",
    )
    embedder: str = setting(
        "light_embedder",
        "WEAVLOADER_EMBEDDER",
        "model that embeds: light_embedder, clip or align",
    )
    timeout: Limit = setting(120, "WEAVLOADER_MODEL_TIMEOUT", "seconds that one inference may take")
    repository: Folder = setting(
        "triton/models", "WEAVLOADER_MODEL_REPOSITORY", "model repository of the embedded Triton"
    )
    models: Words = setting(
        (),
        "WEAVLOADER_LOAD_MODELS",
        "comma list of models the embedded Triton loads (what the configured models need unless set)",
    )


class Weaviate(Section):
    """The store."""

    host: str = setting("", "WEAVIATE_HOST", "store; without it `up` starts a local Weaviate")
    port: Port | None = setting(None, "WEAVIATE_PORT", "its HTTP port (8080; the embedded one 8090)")
    grpc_port: Port = setting(50051, "WEAVIATE_GRPC_PORT", "its gRPC port")
    api_key: str = setting("", "WEAVIATE_API_KEY", "its API key, where it asks for one", secret=True)
    secure: bool = setting(False, "WEAVLOADER_WEAVIATE_SECURE", "use TLS for HTTP and gRPC")
    collection: str = setting("HybridSearchExample", "WEAVLOADER_COLLECTION", "collection that images land in")
    timeout: Limit = setting(60, "WEAVLOADER_STORE_TIMEOUT", "seconds that one request to the store may take")
    batch: Count = setting(50, "WEAVLOADER_LANDING_BATCH", "most objects that land in one request")
    linger: Seconds = setting(
        0.1, "WEAVLOADER_LANDING_LINGER", "seconds that a landing waits for others to join its request"
    )
    bin: str = setting("", "WEAVIATE_BIN", "weaviate server binary to use for the embedded store")
    cluster_ports: Port = setting(
        7946, "WEAVLOADER_WEAVIATE_CLUSTER_PORTS", "first of four ports that the embedded Weaviate uses for itself"
    )

    @property
    def http_port(self) -> int:
        """The HTTP port: 8080 in the field, 8090 for the embedded one, which must not take the metrics port."""
        return self.port or (8080 if self.host else 8090)


class Metrics(Section):
    """The metrics endpoint."""

    host: str = setting("127.0.0.1", "WEAVLOADER_METRICS_HOST", "address that the metrics endpoint listens on")
    port: Port = setting(8080, "WEAVLOADER_METRICS_PORT", "port of /metrics, /health and /ready")


class Flower(Section):
    """The task monitor."""

    host: str = setting("127.0.0.1", "WEAVLOADER_FLOWER_HOST", "address that Flower listens on")
    port: Port = setting(5555, "WEAVLOADER_FLOWER_PORT", "port of Flower")
    basic_auth: str = setting(
        "", "FLOWER_BASIC_AUTH", "user:password of Flower (made at the first start unless set)", secret=True
    )


class Logging(Section):
    """Logs."""

    level: str = setting("INFO", "LOG_LEVEL", "DEBUG, INFO, WARNING, ERROR or CRITICAL")
    format: str = setting("console", "WEAVLOADER_LOG_FORMAT", "console or json")


class Settings(Section):
    """All settings, frozen. Hand an adapter its own section only."""

    paths: Paths = Paths()
    sage: Sage = Sage()
    monitor: Monitor = Monitor()
    fetch: Fetch = Fetch()
    jobs: Jobs = Jobs()
    triton: Triton = Triton()
    weaviate: Weaviate = Weaviate()
    metrics: Metrics = Metrics()
    flower: Flower = Flower()
    logging: Logging = Logging()


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


def load(environment: Mapping[str, str] | None = None, toml_file: Path | None = None) -> Loaded:
    """Read all settings.

    Raises ``ConfigurationError`` naming the variable, what is wrong with it and where it was set.
    """
    environment = os.environ if environment is None else environment
    toml_file = toml_file or PROJECT_ROOT / "weavloader.toml"
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
            values[entry.section][entry.key], origins[entry.env] = environment[entry.env], "environment"
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
        lines.append(f"{entry.env} (from {origins[entry.env]}): {problem['msg'].lower()} ({entry.help})")
    return "; ".join(lines) + ". Correct it or unset it."


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
    unknown = [name for name in settings.fetch.formats if name.upper() not in _FORMATS]
    if unknown or not settings.fetch.formats:
        refuse("WEAVLOADER_IMAGE_FORMATS", f"{', '.join(unknown) or 'nothing'} is not among {', '.join(_FORMATS)}")
    if settings.jobs.stop >= LONGEST_STOP:
        refuse("WEAVLOADER_STOP_SECONDS", f"it must be below {LONGEST_STOP}, when a role that stops is ended by force")
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


def process_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with some names set: what a child process is started with."""
    return {**os.environ, **extra}


def export(name: str, value: str) -> None:
    """Set a variable for this process's own libraries (those that read the environment when imported)."""
    os.environ[name] = value


def environment_variable(name: str) -> str:
    """A variable that is not a setting of ours (PATH, CI, …); '' when it is not set."""
    return os.environ.get(name, "")
