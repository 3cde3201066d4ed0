"""What is put over the base: a small cluster, a large one, and what needs definitions that a cluster may lack."""

from __future__ import annotations

import copy
from typing import Any

from metrics.artifacts.rules import alert_rules, recording_rules
from tools.manifests.objects import NAMESPACE, VERSION, Object, from_secret, labels, made
from tools.manifests.parts import WEAVIATE_BACKUPS, plain
from tools.manifests.policies import BEHAVIOUR, MOST_PROCESSORS, OUTSIDE, PER_PROCESSOR, SCRAPED
from tools.manifests.roles import CONFIG, ROLES

KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
UNFINISHED = 'sum(max by (state) (weavloader_ledger_images{state=~"pending|leased"}))'
#: The nodes of a store of three.
NODES = ("weaviate-0", "weaviate-1", "weaviate-2")
#: The bucket that the store's back-ups go to; its login is in the Secret, or the cluster's own by the pod's identity. A
#: name of ours might be somebody else's bucket: this one can be none, as capitals are not allowed.
BUCKET = {
    "ENABLE_MODULES": "backup-s3",
    "BACKUP_S3_BUCKET": "CHANGE_ME",
    "BACKUP_S3_PATH": "weavloader",
    "BACKUP_S3_ENDPOINT": "s3.amazonaws.com",
    "BACKUP_S3_USE_SSL": "true",
    "AWS_REGION": "us-east-1",
}


def _patch(kind: str, name: str, version: str, content: Object) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def _pod(containers: list[Object], **more: Any) -> Object:
    return {"spec": {"template": {"spec": {"containers": containers, **more}}}}


def kustomization(**content: Any) -> Object:
    """An overlay."""
    return {"apiVersion": KUSTOMIZE, "kind": "Kustomization", **content}


def component(**content: Any) -> Object:
    """Something that overlays may take in."""
    return {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", **content}


def dev() -> dict[str, Object]:
    """The light models on CPU, little memory, one of each: a laptop's cluster."""
    triton = {
        "name": "triton",
        "image": f"weavloader-triton:{VERSION}",
        "env": plain({"TRITON_MODELS": "light_vision,light_captioner,light_embedder"}),
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"memory": "4Gi", "nvidia.com/gpu": None},
        },
    }
    weaviate = {
        "name": "weaviate",
        "env": plain({"GOMEMLIMIT": "1536MiB"}),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
    }
    models = {"WEAVLOADER_CAPTIONER": "light_captioner", "WEAVLOADER_EMBEDDER": "light_embedder"}
    small = [{"op": "replace", "path": "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", "value": "5Gi"}]
    small_backups = [{"op": "replace", "path": "/spec/resources/requests/storage", "value": "5Gi"}]
    return {
        "triton.yaml": _patch("Deployment", "triton", "apps/v1", _pod([triton])),
        "weaviate.yaml": _patch("StatefulSet", "weaviate", "apps/v1", _pod([weaviate])),
        "web.yaml": _patch("Deployment", "web", "apps/v1", {"spec": {"replicas": 1}}),
        "models.yaml": _patch("ConfigMap", CONFIG, "v1", {"data": models}),
        "kustomization.yaml": kustomization(
            resources=["../../base"],
            patches=[
                {"path": "triton.yaml"},
                {"path": "weaviate.yaml"},
                {"path": "web.yaml"},
                {"path": "models.yaml"},
                {"target": {"kind": "StatefulSet"}, "patch": _json(small)},
                {
                    "target": {"kind": "PersistentVolumeClaim", "name": "weaviate-backups"},
                    "patch": _json(small_backups),
                },
            ],
        ),
    }


def _json(operations: list[Object]) -> str:
    import json

    return json.dumps(operations)


def prod() -> dict[str, Object]:
    """Three nodes of the store, more of the roles that may be several, images of a registry."""
    joined = {"RAFT_JOIN": ",".join(NODES), "RAFT_BOOTSTRAP_EXPECT": "3", "REPLICATION_MINIMUM_FACTOR": "3"}
    weaviate = _pod([{"name": "weaviate", "env": plain(joined)}])
    weaviate["spec"]["replicas"] = len(NODES)
    images = [
        {"name": name, "newName": f"registry.example.org/{name}", "newTag": VERSION}
        for name in ("weavloader", "weavloader-triton-gpu")
    ]
    several = {"moderator": 2, "scheduler": 2, "web": 3}
    return {
        "weaviate.yaml": _patch("StatefulSet", "weaviate", "apps/v1", weaviate),
        "kustomization.yaml": kustomization(
            resources=["../../base"],
            images=images,
            replicas=[{"name": name, "count": count} for name, count in several.items()],
            components=["../../components/backup-s3"],  # nodes have no disk in common
            patches=[{"path": "weaviate.yaml"}],
        ),
    }


def full() -> dict[str, Object]:
    """Production with KEDA and the Prometheus operator."""
    return {
        "kustomization.yaml": kustomization(
            resources=["../prod"], components=["../../components/keda", "../../components/monitoring"]
        )
    }


def backup_s3() -> dict[str, Object]:
    """The store's back-ups in a bucket instead of a volume, which several nodes do not share."""
    login = [
        from_secret(name, key, optional=True)
        for name, key in (("AWS_ACCESS_KEY_ID", "s3_access_key"), ("AWS_SECRET_ACCESS_KEY", "s3_secret_key"))
    ]
    weaviate = {
        "name": "weaviate",
        "env": [*plain(BUCKET), {"name": "BACKUP_FILESYSTEM_PATH", "$patch": "delete"}, *login],
        "volumeMounts": [{"mountPath": WEAVIATE_BACKUPS, "$patch": "delete"}],
    }
    let_out = [{"op": "add", "path": "/spec/egress/-", "value": {"to": [OUTSIDE], "ports": [_https()]}}]
    return {
        "weaviate.yaml": _patch(
            "StatefulSet", "weaviate", "apps/v1", _pod([weaviate], volumes=[{"name": "backups", "$patch": "delete"}])
        ),
        "no-volume.yaml": _patch("PersistentVolumeClaim", "weaviate-backups", "v1", {"$patch": "delete"}),
        "kustomization.yaml": component(
            patches=[
                {"path": "weaviate.yaml"},
                {"path": "no-volume.yaml"},
                {"target": {"kind": "NetworkPolicy", "name": "weaviate"}, "patch": _json(let_out)},
            ]
        ),
    }


def _https() -> Object:
    return {"protocol": "TCP", "port": 443}


def keda() -> dict[str, Object]:
    """Processors by KEDA instead of the autoscaler, which it makes itself."""
    scaled = made(
        "ScaledObject",
        "processor",
        "keda.sh/v1alpha1",
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "processor"},
            "minReplicaCount": 1,
            "maxReplicaCount": MOST_PROCESSORS,
            "pollingInterval": 15,
            "cooldownPeriod": 600,
            # where Prometheus is away, as many as carry a usual day
            "fallback": {"failureThreshold": 4, "replicas": 2},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": copy.deepcopy(BEHAVIOUR)}},
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": "AverageValue",
                    "metadata": {"serverAddress": PROMETHEUS, "query": UNFINISHED, "threshold": PER_PROCESSOR},
                }
            ],
        },
    )
    gone = _patch("HorizontalPodAutoscaler", "processor", "autoscaling/v2", {"$patch": "delete"})
    return {
        "scaledobject.yaml": scaled,
        "no-autoscaler.yaml": gone,
        "kustomization.yaml": component(resources=["scaledobject.yaml"], patches=[{"path": "no-autoscaler.yaml"}]),
    }


def monitoring() -> dict[str, Object]:
    """What the Prometheus operator scrapes and watches."""
    by_themselves = sorted(role.name for role in ROLES if role.port[0] == "metrics")
    parts = {"redis-exporter": "redis", "weaviate": "weaviate", "triton": "triton"}
    assert {*by_themselves, *parts} == set(SCRAPED)
    found: dict[str, Object] = {}

    def monitor(name: str, job: str, selector: Object) -> None:
        endpoint = {"port": "metrics", "interval": "15s", "relabelings": [{"targetLabel": "job", "replacement": job}]}
        found[f"{name}.yaml"] = made(
            "PodMonitor",
            name,
            "monitoring.coreos.com/v1",
            spec={"selector": selector, "podMetricsEndpoints": [endpoint]},
        )

    # the rules know the installation's own endpoints by one job
    chosen = {"key": "app.kubernetes.io/component", "operator": "In", "values": by_themselves}
    name_label = {"app.kubernetes.io/name": labels("metrics")["app.kubernetes.io/name"]}
    monitor("roles", "weavloader", {"matchLabels": name_label, "matchExpressions": [chosen]})
    for name, job in parts.items():
        monitor(name, job, {"matchLabels": labels(name)})
    groups = [*recording_rules()["groups"], *alert_rules()["groups"]]
    found["rules.yaml"] = made("PrometheusRule", "weavloader", "monitoring.coreos.com/v1", spec={"groups": groups})
    found["kustomization.yaml"] = component(resources=sorted(found))
    return found
