"""Every setting, declared: what it is called, which variable sets it, what it may be, and one line of help.

``settings.py`` fills them in; adapters receive one section each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

PROJECT_ROOT = Path(__file__).resolve().parent
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIC")

#: What stands behind "ftyp", the fifth to eighth byte, in a HEIC file.
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

#: The used share of its disk from which on Weaviate takes neither writes nor deletions, unless it is told another one.
STORE_READ_ONLY = 0.9


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


def _bare(value: object) -> object:
    """A path without the slashes around it."""
    return value.strip().strip("/") if isinstance(value, str) else value


def hours_of(spans: tuple[str, ...]) -> frozenset[int]:
    """The hours of the day (0 to 23) of spans like ``6``, ``6-19`` (both count) or ``22-4`` (over midnight).

    Raises ``ValueError`` that names the span.
    """
    found: set[int] = set()
    for span in spans:
        first, _, last = span.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) < 24 and int(last or first) < 24):
            raise ValueError(f"{span!r} is no span of hours: give 0 to 23, for example 6-19 or 22-4")
        length = (int(last or first) - int(first)) % 24
        found |= {(int(first) + step) % 24 for step in range(length + 1)}
    return frozenset(found)


def _spans(value: tuple[str, ...]) -> tuple[str, ...]:
    hours_of(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{value!r} is no time zone: give a name like UTC or America/Chicago") from None
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
Spans = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_spans)]
Zone = Annotated[str, AfterValidator(_zone)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Few = Annotated[int, Field(ge=0)]
Delays = Annotated[tuple[Seconds, ...], BeforeValidator(_split)]
Port = Annotated[int, Field(ge=1, le=65535)]
Folder = Annotated[Path, BeforeValidator(_path)]
UrlPath = Annotated[str, BeforeValidator(_bare), Field(pattern=r"^[\w.~/-]*$")]


def setting(default: Any, env: str, help: str, *, secret: bool = False) -> Any:
    """A field with the environment variable that sets it and one line of help."""
    extra: dict[str, Any] = {"env": env, "secret": secret}
    return Field(default, description=help, validate_default=True, repr=not secret, json_schema_extra=extra)


def local_host(listening: str) -> str:
    """The host to ask where something listens on this address."""
    if listening in ("0.0.0.0", "", "::"):
        return "127.0.0.1" if listening != "::" else "[::1]"
    return f"[{listening}]" if ":" in listening else listening


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

    @property
    def watch_secrets(self) -> Path:
        """The folder of the secrets that were made for standing searches."""
        return (self.data / "watches").absolute()


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
    high_water: Few = setting(
        200_000,
        "WEAVLOADER_HIGH_WATER",
        "images pending at which nothing new is taken from the sources until a tenth is worked off (0: no limit)",
    )


class Selection(Section):
    """Which images of the sources are taken; the rest is skipped, with its reason. Own pictures are always taken."""

    nodes: Words = setting(
        (), "WEAVLOADER_SELECT_NODES", "comma list of nodes (vsn or node id, with * and ?) to take [all]"
    )
    cameras: Words = setting((), "WEAVLOADER_SELECT_CAMERAS", "comma list of cameras (with * and ?) to take [all]")
    tasks: Words = setting((), "WEAVLOADER_SELECT_TASKS", "comma list of tasks (with * and ?) to take [all]")
    hours: Spans = setting(
        (), "WEAVLOADER_SELECT_HOURS", "comma list of hours of the day to take: 12, 6-19 (both count), 22-4 [all]"
    )
    zone: Zone = setting("UTC", "WEAVLOADER_SELECT_ZONE", "time zone of these hours, for example America/Chicago")
    most_per_hour: Few = setting(
        0, "WEAVLOADER_SELECT_MOST", "pictures of a camera and hour that are taken, the first ones (0: no limit)"
    )


class Keep(Section):
    """What is kept of what has landed; the rest is forgotten by itself, the oldest first."""

    days: Seconds = setting(
        0, "WEAVLOADER_KEEP_DAYS", "days after its capture at which an image is forgotten (0: never for its age)"
    )
    per_node: Few = setting(
        0, "WEAVLOADER_KEEP_PER_NODE", "images of a node (by its vsn) that are kept, the newest ones (0: no limit)"
    )
    bytes_per_node: Few = setting(
        0,
        "WEAVLOADER_KEEP_BYTES_PER_NODE",
        "bytes of a node's images in the store that are kept, estimated from some of them (0: no limit)",
    )
    disk: Share = setting(
        0,
        "WEAVLOADER_KEEP_DISK",
        "used share of the data folder's disk, which must be the store's, from which on the oldest images are forgotten,"
        " a twentieth an hour, from 0.87 on every ten minutes while it fills (0: never; below 0.9, from where on the store"
        " refuses deletions too)",
    )


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
        IMAGE_FORMATS,
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
    processors: Count = setting(
        1, "WEAVLOADER_PROCESSORS", "processors that `up` starts: one takes little more than a core (some 250 images/s)"
    )
    most_processors: Few = setting(
        0,
        "WEAVLOADER_MOST_PROCESSORS",
        "how many `up` may have, which starts another one while the cores of those that run are full (0: as many as there"
        " are cores)",
    )
    task_events: bool = setting(
        True, "WEAVLOADER_TASK_EVENTS", "send Celery's task events, which Flower shows (about 0.2 CPU-ms an image)"
    )
    prepare_threads: Count = setting(2, "WEAVLOADER_PREPARE_THREADS", "threads that decode images in one processor")
    niceness: Annotated[int, Field(ge=0, le=19)] = setting(
        10,
        "WEAVLOADER_NICENESS",
        "how far a processor gives way to the servers on its machine (as `nice` counts: 0 not at all, 19 most)",
    )
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
        10, "WEAVLOADER_LEASE", "seconds after which the lease of a silent worker runs out"
    )
    heartbeat: Limit = setting(
        3, "WEAVLOADER_HEARTBEAT", "seconds between two renewals of a worker's leases (at most a third of a lease)"
    )
    sweep: Limit = setting(2, "WEAVLOADER_SWEEP", "seconds between sweeps of the ledger")
    poison_deaths: Count = setting(
        3, "WEAVLOADER_POISON_DEATHS", "deaths of a worker or model, alone with an image, that bury it as poison"
    )
    lost_after: Seconds = setting(
        60,
        "WEAVLOADER_LOST_AFTER",
        "seconds by which a queued image may be overtaken before its message counts as lost",
    )
    visibility_timeout: Limit = setting(
        3600, "WEAVLOADER_VISIBILITY_TIMEOUT", "seconds after which the broker delivers an unacknowledged message again"
    )

    @property
    def renewal(self) -> float:
        """Seconds between two renewals: a lease outlives two that fail."""
        return min(self.heartbeat, self.lease / 3)

    stop: Seconds = setting(
        4,
        "WEAVLOADER_STOP_SECONDS",
        "seconds for which a stopping worker lets its jobs finish before it hands them back",
    )
    stop_limit: Count = setting(
        8, "WEAVLOADER_STOP_LIMIT", "seconds after which a role that does not stop is ended by force"
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
    allow_shared_redis: bool = setting(
        False,
        "WEAVLOADER_ALLOW_SHARED_REDIS",
        "start on a Redis database that another Celery app or another installation uses",
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
        "model that captions: light_captioner, florence2_captioner (fetched), or gemma3, qwen2_5_vl, florence2base, each"
        " also with _batched (from a JPEG)",
    )
    embedder: str = setting(
        "light_embedder",
        "WEAVLOADER_EMBEDDER",
        "model that embeds: light_embedder, clip_vit_b32 (fetched), clip or align",
    )
    reranker: str = setting(
        "",
        "WEAVLOADER_RERANKER",
        "model that puts the best results of a search in order by their captions: light_reranker (none unless set)",
    )
    text_share: Share = setting(
        0.3,
        "WEAVLOADER_TEXT_SHARE",
        "weight of the caption's embedding in an image's vector, 0 to 1 (0: the caption is not embedded)",
    )
    timeout: Limit = setting(120, "WEAVLOADER_MODEL_TIMEOUT", "seconds that one inference may take")
    least_in_flight: Count = setting(
        2, "WEAVLOADER_MODEL_FLOOR", "requests that a processor may always have in hand at a model"
    )
    most_in_flight: Count = setting(
        64, "WEAVLOADER_MODEL_CAP", "most requests that a processor has in hand at a model, if that makes it quicker"
    )
    repository: Folder = setting(
        "triton/models", "WEAVLOADER_MODEL_REPOSITORY", "model repository of the embedded Triton"
    )
    models: Words = setting(
        (),
        "WEAVLOADER_LOAD_MODELS",
        "comma list of models the embedded Triton loads (what the configured models need unless set)",
    )


class Hub(Section):
    """The model hub that ``models fetch`` gets weights from."""

    endpoint: str = setting("https://huggingface.co", "HF_ENDPOINT", "the model hub, or a mirror of it")
    token: str = setting("", "HF_TOKEN", "token for the hub, where it asks for one", secret=True)


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
        0.4,
        "WEAVLOADER_LANDING_LINGER",
        "seconds that a landing waits for others to join its request (an eighth of that where none came before it)",
    )
    bin: str = setting("", "WEAVIATE_BIN", "weaviate server binary to use for the embedded store")
    cluster_ports: Port = setting(
        7946, "WEAVLOADER_WEAVIATE_CLUSTER_PORTS", "first of four ports that the embedded Weaviate uses for itself"
    )

    metrics_port: Port | None = setting(
        None,
        "WEAVLOADER_WEAVIATE_METRICS_PORT",
        "metrics port of the embedded Weaviate, on every interface and for anybody (none unless set)",
    )

    @property
    def http_port(self) -> int:
        """The HTTP port: 8080 in the field, 8090 for the embedded one, which must not take the metrics port."""
        return self.port or (8080 if self.host else 8090)


class Metrics(Section):
    """The metrics endpoint."""

    host: str = setting("127.0.0.1", "WEAVLOADER_METRICS_HOST", "address that the metrics endpoint listens on")
    port: Port = setting(8080, "WEAVLOADER_METRICS_PORT", "port of /metrics, /health and /ready")
    per_role: bool = setting(
        False,
        "WEAVLOADER_ROLE_METRICS",
        "each role serves its own /metrics, /health and /ready there, for containers of one role (not with `up`)",
    )
    prometheus: bool = setting(
        True, "WEAVLOADER_PROMETHEUS", "`up` starts Prometheus too, where its binary is on PATH or in the cache folder"
    )
    prometheus_port: Port = setting(9090, "WEAVLOADER_PROMETHEUS_PORT", "port of that Prometheus, on loopback")
    prometheus_url: str = setting(
        "", "WEAVLOADER_PROMETHEUS_URL", "where `watch --alerts` finds Prometheus (the one that `up` starts unless set)"
    )

    @property
    def prometheus_address(self) -> str:
        """Where the Prometheus is whose alerts are posted."""
        return self.prometheus_url or f"http://127.0.0.1:{self.prometheus_port}"


class Flower(Section):
    """The task monitor."""

    host: str = setting("127.0.0.1", "WEAVLOADER_FLOWER_HOST", "address that Flower listens on")
    port: Port = setting(5555, "WEAVLOADER_FLOWER_PORT", "port of Flower")
    basic_auth: str = setting(
        "", "FLOWER_BASIC_AUTH", "user:password of Flower (made at the first start unless set)", secret=True
    )
    prefix: UrlPath = setting(
        "", "WEAVLOADER_FLOWER_PREFIX", "path below which Flower serves, for a proxy that hands the whole path on"
    )
    persistent: bool = setting(
        False, "WEAVLOADER_FLOWER_PERSISTENT", "keep what Flower knows of tasks and workers in the data folder"
    )
    url: str = setting(
        "", "WEAVLOADER_FLOWER_URL", "where the metrics endpoint finds Flower (where it listens unless set)"
    )

    @property
    def path(self) -> str:
        """Where its pages begin: ``/`` or ``/prefix/``."""
        return f"/{self.prefix}/" if self.prefix else "/"


class Web(Section):
    """The search page and its API."""

    host: str = setting(
        "127.0.0.1", "WEAVLOADER_WEB_HOST", "address that the page listens on; beyond loopback only with a token"
    )
    port: Port = setting(8000, "WEAVLOADER_WEB_PORT", "port of the page and its API")
    prefix: UrlPath = setting(
        "",
        "WEAVLOADER_WEB_PREFIX",
        "path below which the page serves, for a proxy, whether it hands that path on or not",
    )
    read_token: str = setting(
        "", "WEAVLOADER_WEB_READ_TOKEN", "token for reading (on loopback reading is open unless set)", secret=True
    )
    admin_token: str = setting(
        "",
        "WEAVLOADER_WEB_ADMIN_TOKEN",
        "token for reading and changing: dead letters, watches (without it: no changes)",
        secret=True,
    )
    nodes: Words = setting(
        (), "WEAVLOADER_WEB_NODES", "comma list of nodes (vsn or node id) that readers may see (all unless set)"
    )
    originals: bool = setting(
        False, "WEAVLOADER_WEB_ORIGINALS", "hand out original images, fetched with the login of this installation"
    )
    upload_bytes: Count = setting(16 * 2**20, "WEAVLOADER_WEB_UPLOAD_BYTES", "largest uploaded picture in bytes")
    rate: Count = setting(600, "WEAVLOADER_WEB_RATE", "requests a minute that one client may make")
    url: str = setting(
        "",
        "WEAVLOADER_WEB_URL",
        "where people find the page, for links that leave the system (where it listens unless set)",
    )

    @property
    def base(self) -> str:
        """What stands before its own paths: '' or ``/prefix``."""
        return f"/{self.prefix}" if self.prefix else ""

    @property
    def address(self) -> str:
        """Where this host's own programs find it, without a slash at the end."""
        return f"http://{local_host(self.host)}:{self.port}{self.base}"

    @property
    def reached(self) -> str:
        """Where people find it, without a slash at the end."""
        return self.url.rstrip("/") or self.address


class Webhooks(Section):
    """What standing searches post to."""

    hosts: Words = setting(
        (),
        "WEAVLOADER_WEBHOOK_HOSTS",
        "comma list of host:port that webhooks may lead to though they are private addresses",
    )
    timeout: Limit = setting(10, "WEAVLOADER_WEBHOOK_TIMEOUT", "seconds that a webhook's receiver may take to answer")


class Logging(Section):
    """Logs."""

    level: str = setting("INFO", "LOG_LEVEL", "DEBUG, INFO, WARNING, ERROR or CRITICAL")
    format: str = setting("console", "WEAVLOADER_LOG_FORMAT", "console or json")


class Settings(Section):
    """All settings, frozen. Hand an adapter its own section only."""

    paths: Paths = Paths()
    sage: Sage = Sage()
    monitor: Monitor = Monitor()
    selection: Selection = Selection()
    keep: Keep = Keep()
    fetch: Fetch = Fetch()
    jobs: Jobs = Jobs()
    triton: Triton = Triton()
    hub: Hub = Hub()
    weaviate: Weaviate = Weaviate()
    metrics: Metrics = Metrics()
    flower: Flower = Flower()
    web: Web = Web()
    webhooks: Webhooks = Webhooks()
    logging: Logging = Logging()
