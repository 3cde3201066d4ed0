"""Who may talk to whom, what may be taken away at once, and how many processors there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.manifests.objects import Object, labels, made
from tools.manifests.parts import TRITON_PORTS, WEAVIATE_CLUSTER_PORTS, WEAVIATE_PORTS
from tools.manifests.roles import ROLES

#: Prometheus' namespace, by the label that every namespace has.
WATCHERS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
ANYWHERE: Object = {"namespaceSelector": {}}
#: SAGE's API and storage, weights and webhooks: HTTPS, on 443 and the port that the storage redirects to; no private
#: network.
OUTSIDE = {
    "ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]}
}
NAMES = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
ALL_ROLES = tuple(role.name for role in ROLES)
MODEL_USERS = ("processor", "cleaner", "metrics", "web")
STORE_USERS = ("processor", "moderator", "cleaner", "metrics", "web")

#: The port of each server, and who among us may reach it.
REACHED: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "redis": ((6379,), (*ALL_ROLES, "redis-exporter")),
    "weaviate": ((WEAVIATE_PORTS["http"], WEAVIATE_PORTS["grpc"]), STORE_USERS),
    "triton": ((TRITON_PORTS["grpc"],), MODEL_USERS),
    "flower": ((5555,), ("metrics", "web")),
    "metrics": ((8080,), ("web",)),
}
#: What Prometheus scrapes.
SCRAPED = {
    **{role.name: role.port[1] for role in ROLES if role.port[0] == "metrics"},
    "redis-exporter": 9121,
    "weaviate": WEAVIATE_PORTS["metrics"],
    "triton": TRITON_PORTS["metrics"],
}
#: What people reach, through an ingress of their own.
PUBLISHED = {"web": 8000, "flower": 5555}
FETCHERS = ("processor", "moderator", "cleaner", "metrics", "web", "triton")


def _tcp(*numbers: int) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _pods(*components: str) -> list[Object]:
    return [{"podSelector": {"matchLabels": labels(component)}} for component in components]


def _policy(name: str, selector: Object, **rules: Any) -> Object:
    kinds = [kind.capitalize() for kind in ("ingress", "egress") if kind in rules]
    return made(
        "NetworkPolicy",
        name,
        "networking.k8s.io/v1",
        spec={"podSelector": selector, "policyTypes": kinds, **{kind: rule for kind, rule in rules.items() if rule}},
    )


def network() -> list[Object]:
    """Nothing is reached but what is named here; a component's own policy holds both its ways."""
    made_of = [_policy("nothing-unless-named", {}, ingress=[], egress=[])]
    for component in (*ALL_ROLES, "redis", "redis-exporter", "weaviate", "triton"):
        ingress: list[Object] = []
        egress: list[Object] = [{"to": [NAMES], "ports": [{"protocol": "UDP", "port": 53}, *_tcp(53)]}]
        if component in REACHED:
            numbers, users = REACHED[component]
            ingress.append({"from": _pods(*users), "ports": _tcp(*numbers)})
        if component in PUBLISHED:
            ingress.append({"from": [ANYWHERE], "ports": _tcp(PUBLISHED[component])})
        if component in SCRAPED:
            ingress.append({"from": [WATCHERS], "ports": _tcp(SCRAPED[component])})
        egress += [
            {"to": _pods(server), "ports": _tcp(*numbers)}
            for server, (numbers, users) in REACHED.items()
            if component in users
        ]
        if component in FETCHERS:
            egress.append({"to": [OUTSIDE], "ports": _tcp(443, 8443)})
        if component == "weaviate":
            gossip = {"protocol": "UDP", "port": WEAVIATE_CLUSTER_PORTS["gossip"]}
            among = [*_tcp(*WEAVIATE_CLUSTER_PORTS.values()), gossip]
            ingress.append({"from": _pods("weaviate"), "ports": among})
            egress.append({"to": _pods("weaviate"), "ports": among})
        made_of.append(_policy(component, {"matchLabels": labels(component)}, ingress=ingress, egress=egress))
    return made_of


def budgets() -> list[Object]:
    """Of what there may be several, a drain takes one at a time."""
    return [
        made(
            "PodDisruptionBudget",
            name,
            "policy/v1",
            spec={"maxUnavailable": 1, "selector": {"matchLabels": labels(name)}},
        )
        for name in ("processor", "web", "weaviate", "triton", "redis")
    ]


#: Images that wait or are in work, for each of which a processor has a place (WEAVLOADER_IN_FLIGHT).
PER_PROCESSOR = "64"
MOST_PROCESSORS = 8
BEHAVIOUR = {
    "scaleUp": {"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
    # one at a time, and each gets its grace to end what it has in hand
    "scaleDown": {"stabilizationWindowSeconds": 600, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 180}]},
}


def autoscaler() -> Object:
    """Processors by what is queued and in flight. The metric needs an adapter (docs/deploy.md); without one there stays
    what there is, at least one.
    """
    return made(
        "HorizontalPodAutoscaler",
        "processor",
        "autoscaling/v2",
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "processor"},
            "minReplicas": 1,
            "maxReplicas": MOST_PROCESSORS,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": "weavloader_unfinished_images"},
                        "target": {"type": "AverageValue", "averageValue": PER_PROCESSOR},
                    },
                }
            ],
            "behavior": BEHAVIOUR,
        },
    )
