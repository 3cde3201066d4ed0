"""A Deployment per role, and who may reach what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tools.manifests.objects import (
    CONFIG,
    SECRETS,
    VERSION,
    Object,
    claim,
    from_secret,
    get,
    labels,
    made,
    mount,
    pod,
    resources,
    restricted,
    scratch,
    secrets,
    service,
    template,
)
from tools.manifests.parts import plain, ports

#: What is no secret and the same for all roles.
SETTINGS = {
    "TRITON_HOST": "triton",
    "TRITON_PORT": "8001",
    "WEAVIATE_HOST": "weaviate",
    "WEAVIATE_PORT": "8080",
    "WEAVIATE_GRPC_PORT": "50051",
    "WEAVLOADER_CAPTIONER": "gemma3",
    "WEAVLOADER_EMBEDDER": "clip",
    "UNALLOWED_NODES": "",
    "LOG_LEVEL": "INFO",
    "WEAVLOADER_LOG_FORMAT": "json",
    "WEAVLOADER_FLOWER_URL": "http://flower:5555",
}
#: Seconds for which a processor's running images may end before they are handed back, and what its pod gets.
FINISH, LIMIT, GRACE = 150, 170, 180
#: The files of the Secret by the setting that they fill in.
FILES = {
    "CELERY_BROKER_URL": "broker_url",
    "WEAVIATE_API_KEY": "weaviate_api_key",
    "SAGE_PASS": "sage_pass",
    "FLOWER_BASIC_AUTH": "flower_basic_auth",
    "WEAVLOADER_WEB_READ_TOKEN": "web_read_token",
    "WEAVLOADER_WEB_ADMIN_TOKEN": "web_admin_token",
}
SAGE = ("SAGE_PASS",)
STORE = ("WEAVIATE_API_KEY",)


@dataclass(frozen=True)
class Role:
    """What a role's pod needs beside what all have."""

    name: str
    cpu: str
    memory: str
    limit: str
    secret: tuple[str, ...] = ()
    #: its own endpoint's port by name, the address that tells whether it gets on, and whether it can work
    port: tuple[str, int] = ("metrics", 8080)
    alive: str = "/health"
    ready: str = "/ready"
    environment: tuple[tuple[str, str], ...] = ()
    #: how many, None where something else decides
    replicas: int | None = 1
    grace: int = 30
    archive: bool = False


OWN = (("WEAVLOADER_ROLE_METRICS", "true"), ("WEAVLOADER_METRICS_HOST", "0.0.0.0"))
ROLES = (
    Role(
        "processor",
        "1",
        "512Mi",
        "1536Mi",
        (*STORE, *SAGE),
        environment=(*OWN, ("WEAVLOADER_STOP_SECONDS", str(FINISH)), ("WEAVLOADER_STOP_LIMIT", str(LIMIT))),
        replicas=None,
        grace=GRACE,
    ),
    # SAGE away is no reason to take a moderator off, which polls other sources too
    # and a backfill asks the store what the ledger has forgotten
    Role("moderator", "100m", "160Mi", "512Mi", (*STORE, *SAGE), ready="/health", environment=OWN),
    Role("cleaner", "100m", "160Mi", "512Mi", STORE, environment=OWN, archive=True),
    Role("scheduler", "50m", "128Mi", "256Mi", environment=OWN),
    Role("stream", "50m", "128Mi", "256Mi", environment=OWN),
    # its /ready is the whole installation's: figures are wanted most while that is not ready
    Role(
        "metrics",
        "100m",
        "256Mi",
        "512Mi",
        (*STORE, *SAGE, "FLOWER_BASIC_AUTH"),
        ready="/health",
        environment=(("WEAVLOADER_METRICS_HOST", "0.0.0.0"),),
    ),
    Role(
        "flower",
        "50m",
        "160Mi",
        "512Mi",
        ("FLOWER_BASIC_AUTH",),
        port=("flower", 5555),
        alive="/healthcheck",
        ready="/healthcheck",
        environment=(("WEAVLOADER_FLOWER_HOST", "0.0.0.0"),),
    ),
    Role(
        "web",
        "200m",
        "256Mi",
        "1Gi",
        (*STORE, *SAGE, "WEAVLOADER_WEB_READ_TOKEN", "WEAVLOADER_WEB_ADMIN_TOKEN"),
        port=("web", 8000),
        ready="/health",
        environment=(
            ("WEAVLOADER_WEB_HOST", "0.0.0.0"),
            ("WEAVLOADER_METRICS_HOST", "metrics"),
            ("WEAVLOADER_FLOWER_HOST", "flower"),
        ),
        replicas=2,
    ),
)


def _container(role: Role) -> Object:
    files = ("CELERY_BROKER_URL", *role.secret)
    environment = plain({f"{name}_FILE": f"{SECRETS}/{FILES[name]}" for name in files} | dict(role.environment))
    if "SAGE_PASS" in role.secret:
        environment.append(from_secret("SAGE_USER", "sage_user"))
    name, number = role.port
    return {
        "name": role.name,
        "image": f"weavloader:{VERSION}",
        "args": [role.name],
        "envFrom": [{"configMapRef": {"name": CONFIG}}],
        "env": environment,
        "ports": ports({name: number}),
        "startupProbe": get(role.alive, name, periodSeconds=5, failureThreshold=60),
        "livenessProbe": get(role.alive, name, periodSeconds=20, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": get(role.ready, name, periodSeconds=10, timeoutSeconds=5),
        "resources": resources(role.cpu, role.memory, limit=role.limit),
        "securityContext": restricted(),
        "volumeMounts": [mount("data", "/data"), mount("tmp", "/tmp"), mount("secrets", SECRETS, readOnly=True)],
    }


def _deployment(role: Role) -> Object:
    kept = {"name": "data", "persistentVolumeClaim": {"claimName": "archive"}}
    files = [FILES[name] for name in ("CELERY_BROKER_URL", *role.secret)]
    volumes = [kept if role.archive else scratch("data"), scratch(), secrets(*files)]
    more: dict[str, Any] = {"terminationGracePeriodSeconds": role.grace}
    if role.replicas is None or role.replicas > 1:
        more["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(role.name)},
            }
        ]
    spec: Object = {} if role.replicas is None else {"replicas": role.replicas}
    if role.archive:
        spec["strategy"] = {"type": "Recreate"}  # its volume is one pod's
    spec["selector"] = {"matchLabels": labels(role.name)}
    spec["template"] = template(role.name, pod(10001, 10001, [_container(role)], volumes, **more))
    return made("Deployment", role.name, "apps/v1", spec=spec)


def roles() -> list[Object]:
    """Every role, the Services of those that are asked, and the cleaner's volume."""
    asked = [service(role.name, role.name, dict([role.port])) for role in ROLES if role.name in ASKED]
    archive = made("PersistentVolumeClaim", "archive", spec=claim("archive", "5Gi")["spec"])
    return [archive, *(_deployment(role) for role in ROLES), *asked]


ASKED = ("metrics", "flower", "web")


def configuration() -> Object:
    """The settings of all roles."""
    return made("ConfigMap", CONFIG, data=SETTINGS)
