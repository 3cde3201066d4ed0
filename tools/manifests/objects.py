"""What every object and every pod has."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NAMESPACE = "weavloader"
APP = "weavloader"
VERSION = "0.1.0"
#: The Secret that an operator makes; no value stands in any file.
SECRET = "weavloader-secrets"
CONFIG = "weavloader-config"
#: Where its keys lie in a pod, each pod's own only.
SECRETS = "/secrets"


def labels(component: str) -> dict[str, str]:
    """What selects a component's pods."""
    return {"app.kubernetes.io/name": APP, "app.kubernetes.io/component": component}


def made(kind: str, name: str, version: str = "v1", **content: Any) -> Object:
    """An object of the namespace."""
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": APP}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def restricted(**more: Any) -> Object:
    """A container that may do nothing but its work."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        **more,
    }


def pod(user: int, group: int, containers: list[Object], volumes: list[Object], **more: Any) -> Object:
    """A pod's specification. Service links would set TRITON_PORT, FLOWER_PORT … to addresses of Services."""
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "serviceAccountName": APP,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
        "containers": containers,
        "volumes": volumes,
    }


def template(component: str, spec: Object) -> Object:
    """The pod of a Deployment or StatefulSet."""
    return {"metadata": {"labels": labels(component)}, "spec": spec}


def secrets(*keys: str) -> Object:
    """The volume of those keys of the Secret."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": "secrets", "secret": {"secretName": SECRET, "defaultMode": 0o440, "items": items}}


def from_secret(name: str, key: str, *, optional: bool = False) -> Object:
    """A variable that a key of the Secret fills in."""
    reference: Object = {"name": SECRET, "key": key}
    return {"name": name, "valueFrom": {"secretKeyRef": {**reference, **({"optional": True} if optional else {})}}}


def scratch(name: str = "tmp", size: str = "256Mi", medium: str = "") -> Object:
    """An empty volume that goes with its pod."""
    return {"name": name, "emptyDir": {"sizeLimit": size, **({"medium": medium} if medium else {})}}


def mount(name: str, path: str, **more: Any) -> Object:
    """Where a volume is in a container."""
    return {"name": name, "mountPath": path, **more}


def resources(cpu: str, memory: str, *, limit: str = "", **more: str) -> Object:
    """What is asked for, and the memory at which it ends; CPU is shared by weight and never cut off."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit or memory, **more}}


def get(path: str, port: str, **times: int) -> Object:
    """A probe over HTTP."""
    return {"httpGet": {"path": path, "port": port}, **times}


def service(name: str, component: str, ports: dict[str, int], **more: Any) -> Object:
    """A Service on named ports of a component's pods."""
    listed = [{"name": port, "port": number, "targetPort": port} for port, number in ports.items()]
    return made("Service", name, spec={**more, "selector": labels(component), "ports": listed})


def claim(name: str, size: str) -> Object:
    """What a claim asks for."""
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }
