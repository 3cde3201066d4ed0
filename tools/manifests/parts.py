"""Redis with its exporter, Weaviate, Triton."""

from __future__ import annotations

from tools.manifests.objects import (
    NAMESPACE,
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

REDIS = f"""\
umask 077
echo "requirepass $(cat {SECRETS}/redis_password)" > /tmp/password.conf
exec redis-server /tmp/password.conf --dir /data --appendonly yes --appendfsync everysec --save "" \\
  --maxmemory 1gb --maxmemory-policy noeviction
"""
REDIS_ASKED = f"REDISCLI_AUTH=$(cat {SECRETS}/redis_password) redis-cli ping | grep -q PONG"
WEAVIATE = f"""\
AUTHENTICATION_APIKEY_ALLOWED_KEYS=$(cat {SECRETS}/weaviate_api_key)
CLUSTER_BASIC_AUTH_PASSWORD=$(cat {SECRETS}/weaviate_cluster_password)
export AUTHENTICATION_APIKEY_ALLOWED_KEYS CLUSTER_BASIC_AUTH_PASSWORD
exec /bin/weaviate --host 0.0.0.0 --port 8080 --scheme http --read-timeout=600s --write-timeout=600s
"""
WEAVIATE_NODES = {
    "CLUSTER_JOIN": f"weaviate-headless.{NAMESPACE}.svc.cluster.local.:7946",
    "RAFT_JOIN": "weaviate-0",
    "RAFT_BOOTSTRAP_EXPECT": "1",
    "REPLICATION_MINIMUM_FACTOR": "1",
}
#: Where one node keeps the copies of itself that `python main.py backup` asks for, on a volume of their own.
WEAVIATE_BACKUPS = "/var/lib/weaviate-backups"
WEAVIATE_SETTINGS = {
    "PERSISTENCE_DATA_PATH": "/var/lib/weaviate",
    "DEFAULT_VECTORIZER_MODULE": "none",
    "ENABLE_MODULES": "backup-filesystem",
    "BACKUP_FILESYSTEM_PATH": WEAVIATE_BACKUPS,
    "AUTOSCHEMA_ENABLED": "false",
    "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
    "AUTHENTICATION_APIKEY_ENABLED": "true",
    "AUTHENTICATION_APIKEY_USERS": "weavloader",
    "AUTHORIZATION_ADMINLIST_ENABLED": "true",
    "AUTHORIZATION_ADMINLIST_USERS": "weavloader",
    "CLUSTER_GOSSIP_BIND_PORT": "7946",
    "CLUSTER_DATA_BIND_PORT": "7947",
    "CLUSTER_BASIC_AUTH_USERNAME": "weavloader",
    "PROMETHEUS_MONITORING_ENABLED": "true",
    "PROMETHEUS_MONITORING_PORT": "2112",
    "DISABLE_TELEMETRY": "true",
    "GO_PROFILING_DISABLE": "true",
    "GOMEMLIMIT": "6GiB",
}
WEAVIATE_PORTS = {"http": 8080, "grpc": 50051, "metrics": 2112}
WEAVIATE_CLUSTER_PORTS = {"gossip": 7946, "data": 7947, "raft": 8300, "raft-rpc": 8301}
TRITON_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


def ports(numbers: dict[str, int]) -> list[Object]:
    """A container's ports by name."""
    return [{"name": name, "containerPort": number} for name, number in numbers.items()]


def plain(values: dict[str, str]) -> list[Object]:
    """Variables with values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def shell(script: str) -> list[str]:
    """A shell that ends with the first command that fails."""
    return ["/bin/sh", "-euc", script]


def redis() -> list[Object]:
    """The broker and the ledger: one, whose every write is on its volume within a second."""
    asked = {"exec": {"command": shell(REDIS_ASKED)}}
    container = {
        "name": "redis",
        "image": "redis:7.2.6-bookworm",
        "command": shell(REDIS),
        "ports": ports({"redis": 6379}),
        "startupProbe": {**asked, "periodSeconds": 5, "failureThreshold": 120},
        "livenessProbe": {**asked, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {**asked, "periodSeconds": 5, "timeoutSeconds": 3},
        "resources": resources("250m", "1Gi", limit="2Gi"),
        "securityContext": restricted(),
        "volumeMounts": [mount("data", "/data"), mount("tmp", "/tmp"), mount("secrets", SECRETS, readOnly=True)],
    }
    spec = pod(999, 999, [container], [secrets("redis_password"), scratch()], terminationGracePeriodSeconds=60)
    stateful = {
        "serviceName": "redis",
        "replicas": 1,
        "selector": {"matchLabels": labels("redis")},
        "template": template("redis", spec),
        "volumeClaimTemplates": [claim("data", "10Gi")],
    }
    return [
        made("StatefulSet", "redis", "apps/v1", spec=stateful),
        service("redis", "redis", {"redis": 6379}, clusterIP="None"),
    ]


def redis_exporter() -> list[Object]:
    """Redis' figures for Prometheus."""
    container = {
        "name": "redis-exporter",
        "image": "oliver006/redis_exporter:v1.66.0-alpine",
        "args": ["--redis.addr=redis://redis:6379"],
        "env": [from_secret("REDIS_PASSWORD", "redis_password")],
        "ports": ports({"metrics": 9121}),
        "livenessProbe": get("/health", "metrics", periodSeconds=20, failureThreshold=6),
        "readinessProbe": get("/health", "metrics", periodSeconds=10),
        "resources": resources("20m", "64Mi", limit="128Mi"),
        "securityContext": restricted(),
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels("redis-exporter")},
        "template": template("redis-exporter", pod(59000, 59000, [container], [])),
    }
    return [
        made("Deployment", "redis-exporter", "apps/v1", spec=spec),
        service("redis-exporter", "redis-exporter", {"metrics": 9121}),
    ]


def weaviate() -> list[Object]:
    """The store: one node, or three by kubernetes/overlays/prod."""
    named = {"name": "CLUSTER_HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    alive, ready = "/v1/.well-known/live", "/v1/.well-known/ready"
    container = {
        "name": "weaviate",
        "image": "semitechnologies/weaviate:1.37.14",
        "command": shell(WEAVIATE),
        "env": [named, *plain(WEAVIATE_NODES), *plain(WEAVIATE_SETTINGS)],
        "ports": ports({**WEAVIATE_PORTS, **WEAVIATE_CLUSTER_PORTS}),
        "startupProbe": get(alive, "http", periodSeconds=10, failureThreshold=180),
        "livenessProbe": get(alive, "http", periodSeconds=20, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": get(ready, "http", periodSeconds=10, timeoutSeconds=5),
        "resources": resources("1", "4Gi", limit="8Gi"),
        "securityContext": restricted(),
        "volumeMounts": [
            mount("data", "/var/lib/weaviate"),
            mount("backups", WEAVIATE_BACKUPS),
            mount("tmp", "/tmp"),
            mount("secrets", SECRETS, readOnly=True),
        ],
    }
    backups = {"name": "backups", "persistentVolumeClaim": {"claimName": "weaviate-backups"}}
    volumes = [secrets("weaviate_api_key", "weaviate_cluster_password"), backups, scratch()]
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels("weaviate")}}
    spec = pod(
        1000,
        1000,
        [container],
        volumes,
        terminationGracePeriodSeconds=120,
        affinity={
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
            }
        },
    )
    stateful = {
        "serviceName": "weaviate-headless",
        "replicas": 1,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels("weaviate")},
        "template": template("weaviate", spec),
        "volumeClaimTemplates": [claim("data", "100Gi")],
    }
    return [
        made("PersistentVolumeClaim", "weaviate-backups", spec=claim("weaviate-backups", "100Gi")["spec"]),
        made("StatefulSet", "weaviate", "apps/v1", spec=stateful),
        service("weaviate", "weaviate", WEAVIATE_PORTS),
        service(
            "weaviate-headless",
            "weaviate",
            WEAVIATE_CLUSTER_PORTS,
            clusterIP="None",
            publishNotReadyAddresses=True,
        ),
    ]


def triton() -> list[Object]:
    """The production models on one GPU; kubernetes/overlays/dev has the light ones without."""
    health = {"exec": {"command": ["python3", "-S", "/opt/weavloader/health.py"]}}
    container = {
        "name": "triton",
        "image": f"weavloader-triton-gpu:{VERSION}",
        "env": [
            *plain({"TRITON_MODELS": "gemma3,clip"}),
            from_secret("HF_TOKEN", "hf_token", optional=True),
        ],
        "ports": ports(TRITON_PORTS),
        # a cold load downloads the weights: 40 minutes
        "startupProbe": get("/v2/health/ready", "http", periodSeconds=10, timeoutSeconds=5, failureThreshold=240),
        "livenessProbe": {**health, "periodSeconds": 30, "timeoutSeconds": 15, "failureThreshold": 10},
        "readinessProbe": get("/v2/health/ready", "http", periodSeconds=10, timeoutSeconds=5),
        "resources": resources("4", "32Gi", limit="64Gi", **{"nvidia.com/gpu": "1"}),
        "securityContext": restricted(),
        "volumeMounts": [mount("cache", "/cache"), mount("shm", "/dev/shm"), mount("tmp", "/tmp")],
    }
    volumes = [
        {"name": "cache", "persistentVolumeClaim": {"claimName": "triton-cache"}},
        scratch("shm", "8Gi", "Memory"),
        scratch(size="4Gi"),
    ]
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # one GPU, one volume
        "selector": {"matchLabels": labels("triton")},
        "template": template("triton", pod(10001, 10001, [container], volumes, terminationGracePeriodSeconds=90)),
    }
    return [
        made("PersistentVolumeClaim", "triton-cache", spec=claim("triton-cache", "200Gi")["spec"]),
        made("Deployment", "triton", "apps/v1", spec=spec),
        service("triton", "triton", TRITON_PORTS),
    ]
