"""``python -m tools.manifests``: write ``kubernetes/`` and, by a link to it, ``kubernetes-complete.yaml``."""

from __future__ import annotations

import json

from metrics.artifacts.dashboard import dashboard
from metrics.artifacts.plain_yaml import as_yaml
from settings import PROJECT_ROOT
from tools.manifests import overlays, parts, policies, roles
from tools.manifests.objects import APP, NAMESPACE, Object, made

FOLDER = PROJECT_ROOT / "kubernetes"
COMPLETE = PROJECT_ROOT / "kubernetes-complete.yaml"
WRITTEN = "Written by `python -m tools.manifests`: change the code there, not this file."
HEAD = f"""{WRITTEN}
The whole installation, of built-in kinds only: kubectl apply -f kubernetes-complete.yaml
Before it, make the namespace and the Secret weavloader-secrets, as docs/deploy.md tells: no value of it stands here.
kubernetes/overlays has a small form (dev) and a large one (prod), kubernetes/components what needs KEDA, the Prometheus
operator or a bucket for back-ups."""
#: What stands above the parts.
TITLES = {
    "Namespace": "",
    "StatefulSet/redis": "Broker and ledger",
    "StatefulSet/weaviate": """The store. Three nodes instead of one, before the first start: replicas 3,
RAFT_JOIN weaviate-0,weaviate-1,weaviate-2, RAFT_BOOTSTRAP_EXPECT 3 and REPLICATION_MINIMUM_FACTOR 3, as
kubernetes/overlays/prod has it.""",
    "Deployment/triton": "The models",
    "Deployment/processor": "The roles; how many processors is the autoscaler's",
    "NetworkPolicy/nothing-unless-named": "Who may talk to whom",
}


def complete() -> list[Object]:
    """Every object of the base."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": APP, "pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    account = made("ServiceAccount", APP, automountServiceAccountToken=False)
    shown = made("ConfigMap", "weavloader-dashboard", data={"weavloader.json": dashboard_text()})
    shown["metadata"]["labels"]["grafana_dashboard"] = "1"  # by which Grafana's own sidecar finds it
    return [
        namespace,
        account,
        roles.configuration(),
        *parts.redis(),
        *parts.redis_exporter(),
        *parts.weaviate(),
        *parts.triton(),
        *roles.roles(),
        *policies.budgets(),
        policies.autoscaler(),
        *policies.network(),
        shown,
    ]


def dashboard_text() -> str:
    """The dashboard, as the checked-in file has it."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """Every file's content by its name below ``kubernetes``."""
    documents = [as_yaml(one, TITLES.get(f"{one['kind']}/{one['metadata']['name']}", "")) for one in complete()]
    base = overlays.kustomization(resources=["complete.yaml"])
    made_of = {
        "base/complete.yaml": "".join(f"# {line}\n" for line in HEAD.splitlines()) + "---\n" + "---\n".join(documents),
        "base/kustomization.yaml": as_yaml(base, WRITTEN),
    }
    for place, content in (
        ("overlays/dev", overlays.dev()),
        ("overlays/prod", overlays.prod()),
        ("overlays/prod-full", overlays.full()),
        ("components/backup-s3", overlays.backup_s3()),
        ("components/keda", overlays.keda()),
        ("components/monitoring", overlays.monitoring()),
    ):
        for name, document in content.items():
            made_of[f"{place}/{name}"] = as_yaml(document, WRITTEN)
    return made_of


def main() -> None:
    """Write them."""
    for name, content in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    if not COMPLETE.is_symlink():
        COMPLETE.symlink_to("kubernetes/base/complete.yaml")


if __name__ == "__main__":
    main()
