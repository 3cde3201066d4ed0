"""The Kubernetes manifests: by Kubernetes' own schemas, by those of what overlays add, and by rules of our own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from settings import PROJECT_ROOT
from stack import ROLES
from tests.containers.files import known_to_us
from tools.manifests.__main__ import COMPLETE, FOLDER, dashboard_text, files
from tools.manifests.policies import REACHED, SCRAPED

Object = dict[str, Any]
#: The oldest and the newest Kubernetes that the manifests are for.
VERSIONS = ("1.27", "1.37")
FURTHER = {"ScaledObject": ScaledObject, "PodMonitor": PodMonitor, "PrometheusRule": PrometheusRule}
OVERLAYS = ("dev", "prod", "prod-full")
WORKLOADS = ("Deployment", "StatefulSet")


@cache
def complete() -> tuple[Object, ...]:
    """Every object of the file."""
    return tuple(yaml.safe_load_all(COMPLETE.read_text()))


@cache
def built(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay, as kubectl builds it."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [kubectl, "kustomize", FOLDER / "overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def everything() -> Iterator[tuple[str, tuple[Object, ...]]]:
    """The base and each overlay."""
    yield "base", complete()
    for overlay in OVERLAYS:
        yield overlay, built(overlay)


def named(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    """The objects of a kind by name."""
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def workloads(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Deployments and StatefulSets by name."""
    return {name: one for kind in WORKLOADS for name, one in named(objects, kind).items()}


def pod(workload: Object) -> Object:
    """A workload's pod."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def the_container(workload: Object) -> Object:
    """A workload's only container."""
    (found,) = pod(workload)["containers"]
    container: Object = found
    return container


def strictly(one: Object, version: str) -> None:
    """Raise where the object is not exactly what its kind allows, and where nothing knows its kind."""
    model = FURTHER.get(one["kind"])
    if model is None:
        kubernetes_validate.validate(one, version, strict=True)
        return
    understood = model.model_validate(one).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert {**one, "metadata": None} == {**understood, "metadata": None}, "a field that its definition lacks"


@pytest.mark.parametrize("name", files())
def test_the_file_is_as_the_code_writes_it(name: str) -> None:
    assert (FOLDER / name).read_text() == files()[name], "run `python -m tools.manifests`"


def test_the_complete_file_is_at_the_root_and_holds_built_in_kinds_only() -> None:
    assert COMPLETE.resolve() == FOLDER / "base" / "complete.yaml"
    assert {one["kind"] for one in complete()} & set(FURTHER) == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_meets_its_schema(version: str) -> None:
    for place, objects in everything():
        for one in objects:
            try:
                strictly(one, version)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{place}: {one['kind']}/{one['metadata']['name']}: {error.message}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"apiVersion": "example.org/v1", "kind": "Unheard", "metadata": {"name": "of"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selectors": {}}},
        {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "old"}},
    ],
    ids=["an unknown kind", "an unknown field", "a version that is gone"],
)
def test_what_no_schema_allows_fails(wrong: Object) -> None:
    with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        strictly(wrong, VERSIONS[0])


def test_a_field_that_keda_has_not_fails() -> None:
    scaled = named(built("prod-full"), "ScaledObject")["processor"]
    with pytest.raises(AssertionError, match="a field that its definition lacks"):
        strictly({**scaled, "spec": {**scaled["spec"], "minReplicas": 1}}, VERSIONS[0])


def test_every_role_has_a_deployment_and_every_part_is_there() -> None:
    assert set(workloads(complete())) == {*ROLES, "redis", "redis-exporter", "weaviate", "triton"}
    for role in ROLES:
        assert the_container(workloads(complete())[role])["args"] == [role]


def test_selectors_select_the_pods_of_their_own_workload_alone() -> None:
    for place, objects in everything():
        labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in workloads(objects).items()}

        def selected(wanted: Object, labels: dict[str, Object] = labels) -> list[str]:
            return [name for name, has in labels.items() if wanted.items() <= has.items()]

        for name, one in workloads(objects).items():
            assert selected(one["spec"]["selector"]["matchLabels"]) == [name], place
        for one in named(objects, "PodDisruptionBudget").values():
            assert selected(one["spec"]["selector"]["matchLabels"]) == [one["metadata"]["name"]], place
        for name, service in named(objects, "Service").items():
            (server,) = selected(service["spec"]["selector"])
            ports = {port["name"]: port["containerPort"] for port in the_container(workloads(objects)[server])["ports"]}
            for port in service["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"], (place, name)
        for one in named(objects, "StatefulSet").values():
            assert one["spec"]["serviceName"] in named(objects, "Service"), place


def test_addresses_in_settings_are_services_with_that_port() -> None:
    services = named(complete(), "Service")
    data = named(complete(), "ConfigMap")["weavloader-config"]["data"]
    addresses = [
        (data["TRITON_HOST"], int(data["TRITON_PORT"])),
        (data["WEAVIATE_HOST"], int(data["WEAVIATE_PORT"])),
        (data["WEAVIATE_HOST"], int(data["WEAVIATE_GRPC_PORT"])),
        *((name, int(port)) for name, port in re.findall(r"//([\w-]+):(\d+)", data["WEAVLOADER_FLOWER_URL"])),
        *((name, int(port)) for name, port in re.findall(r"redis://([\w-]+):(\d+)", COMPLETE.read_text())),
    ]
    for name, port in addresses:
        assert port in [one["port"] for one in services[name]["spec"]["ports"]], name


def test_pods_hold_what_their_containers_mount_and_refer_to_what_is_there() -> None:
    for place, objects in everything():
        claims = set(named(objects, "PersistentVolumeClaim"))
        maps = set(named(objects, "ConfigMap"))
        accounts = set(named(objects, "ServiceAccount"))
        for name, one in workloads(objects).items():
            spec, container = pod(one), the_container(one)
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            made = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
            mounted = [mount["name"] for mount in container.get("volumeMounts", ())]
            assert sorted(mounted) == sorted({*volumes, *made}), (place, name)
            for volume in volumes.values():
                if "persistentVolumeClaim" in volume:
                    assert volume["persistentVolumeClaim"]["claimName"] in claims, (place, name)
            assert {source["configMapRef"]["name"] for source in container.get("envFrom", ())} <= maps
            assert spec["serviceAccountName"] in accounts
            ports = {port["name"] for port in container["ports"]}
            probes = [container[probe] for probe in ("livenessProbe", "readinessProbe")]
            probes += [container["startupProbe"]] if "startupProbe" in container else []
            assert all(probe["httpGet"]["port"] in ports for probe in probes if "httpGet" in probe), (place, name)


def test_files_of_secrets_are_those_that_are_mounted() -> None:
    for name, one in workloads(complete()).items():
        keys = [
            item["path"] for volume in pod(one)["volumes"] if "secret" in volume for item in volume["secret"]["items"]
        ]
        container = the_container(one)
        text = " ".join([*container.get("command", ()), *(item.get("value", "") for item in container.get("env", ()))])
        text += " ".join(
            part for probe in ("livenessProbe",) for part in container[probe].get("exec", {}).get("command", ())
        )
        assert set(re.findall(r"/secrets/(\w+)", text)) == set(keys), name


def test_no_secret_has_a_value_and_the_guide_makes_every_key() -> None:
    assert named(complete(), "Secret") == {}
    text = COMPLETE.read_text()
    keys = set(re.findall(r"^ +- key: (\w+)$|^ +key: (\w+)$", text, re.M))
    used = {key for pair in keys for key in pair if key}
    guide = (PROJECT_ROOT / "docs" / "deploy.md").read_text()
    assert used == set(re.findall(r"--from-literal=(\w+)=", guide))


def test_our_containers_get_variables_that_the_product_reads() -> None:
    for place, objects in everything():
        names = set(named(objects, "ConfigMap")["weavloader-config"]["data"])
        for role in ROLES:
            names |= {item["name"] for item in the_container(workloads(objects)[role])["env"]}
        assert [name for name in names if not known_to_us(name)] == [], place


def test_no_pod_gets_service_links_a_token_or_more_rights_than_it_needs() -> None:
    for place, objects in everything():
        for name, one in workloads(objects).items():
            spec, container = pod(one), the_container(one)
            assert spec["enableServiceLinks"] is False, (place, name)
            assert spec["automountServiceAccountToken"] is False, (place, name)
            assert spec["securityContext"]["runAsNonRoot"] is True, (place, name)
            assert spec["securityContext"]["runAsUser"] > 0, (place, name)
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, (place, name)
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (place, name)
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, (place, name)
            assert "memory" in container["resources"]["limits"], (place, name)
            assert re.search(r":v?\d[\w.-]*$", container["image"]), (place, name)


def test_liveness_asks_for_progress_and_gives_it_time() -> None:
    for role in ROLES:
        container = the_container(workloads(complete())[role])
        liveness = container["livenessProbe"]
        assert liveness["httpGet"]["path"] in ("/health", "/healthcheck"), "no role dies of what is away beside it"
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 120
        variables = {item["name"] for item in container["env"]}
        own = {"WEAVLOADER_ROLE_METRICS", "WEAVLOADER_METRICS_HOST", "WEAVLOADER_FLOWER_HOST", "WEAVLOADER_WEB_HOST"}
        assert variables & own, "its port must be reachable from its node"


def test_a_start_may_take_as_long_as_a_cold_model_load() -> None:
    probe = the_container(workloads(complete())["triton"])["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800


def test_scaling_down_waits_for_running_images() -> None:
    processor = workloads(complete())["processor"]
    environment = {item["name"]: item.get("value") for item in the_container(processor)["env"]}
    grace = pod(processor)["terminationGracePeriodSeconds"]
    assert int(environment["WEAVLOADER_STOP_SECONDS"]) < int(environment["WEAVLOADER_STOP_LIMIT"]) < grace
    assert "replicas" not in processor["spec"], "their number is the autoscaler's"
    scaler = named(complete(), "HorizontalPodAutoscaler")["processor"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "processor"}
    (down,) = scaler["behavior"]["scaleDown"]["policies"]
    assert (down["type"], down["value"]) == ("Pods", 1)
    assert down["periodSeconds"] >= grace


def test_keda_takes_the_autoscalers_place() -> None:
    assert named(built("prod-full"), "HorizontalPodAutoscaler") == {}
    scaled = named(built("prod-full"), "ScaledObject")["processor"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in workloads(complete())
    assert scaled["triggers"][0]["metadata"]["threshold"] == "64"


def test_the_development_form_needs_no_gpu_and_the_production_form_has_three_nodes() -> None:
    triton = the_container(workloads(built("dev"))["triton"])
    assert "nvidia.com/gpu" not in triton["resources"]["limits"]
    assert triton["image"] == the_image_of_the_light_models()
    data = named(built("dev"), "ConfigMap")["weavloader-config"]["data"]
    assert data["WEAVLOADER_EMBEDDER"] in next(i["value"] for i in triton["env"] if i["name"] == "TRITON_MODELS")
    store = workloads(built("prod"))["weaviate"]
    environment = {item["name"]: item.get("value") for item in the_container(store)["env"]}
    assert store["spec"]["replicas"] == 3
    assert environment["RAFT_JOIN"].split(",") == [f"weaviate-{number}" for number in range(3)]
    assert (environment["RAFT_BOOTSTRAP_EXPECT"], environment["REPLICATION_MINIMUM_FACTOR"]) == ("3", "3")


def test_one_node_copies_itself_onto_a_volume_and_three_into_a_bucket() -> None:
    for place, objects in everything():
        container = the_container(workloads(objects)["weaviate"])
        environment = {item["name"]: item for item in container["env"]}
        paths = {mount["mountPath"] for mount in container["volumeMounts"]}
        claims = named(objects, "PersistentVolumeClaim")
        egress = named(objects, "NetworkPolicy")["weaviate"]["spec"]["egress"]
        outside = [rule for rule in egress for peer in rule["to"] if "ipBlock" in peer]
        module = environment["ENABLE_MODULES"]["value"]
        if workloads(objects)["weaviate"]["spec"]["replicas"] == 1:
            assert module == "backup-filesystem", place
            assert environment["BACKUP_FILESYSTEM_PATH"]["value"] in paths, place
            assert "weaviate-backups" in claims, place
            assert outside == [], place
        else:
            assert module == "backup-s3", place
            bucket = environment["BACKUP_S3_BUCKET"]["value"]
            assert not re.fullmatch(r"[a-z0-9.-]{3,63}", bucket), f"{place}: somebody may have a bucket {bucket}"
            assert "BACKUP_FILESYSTEM_PATH" not in environment, place
            assert "weaviate-backups" not in claims, place
            assert [port["port"] for rule in outside for port in rule["ports"]] == [443], place
            login = environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
            assert login["key"] in (PROJECT_ROOT / "docs" / "deploy.md").read_text()


def the_image_of_the_light_models() -> str:
    """As docker-compose.yml builds it."""
    version = re.search(r"weavloader-triton:\$\{\w+:-([\d.]+)\}", (PROJECT_ROOT / "docker-compose.yml").read_text())
    assert version
    return f"weavloader-triton:{version[1]}"


def test_policies_deny_all_and_allow_each_server_its_users_on_ports_that_it_has() -> None:
    policies = named(complete(), "NetworkPolicy")
    assert policies["nothing-unless-named"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(policies) - {"nothing-unless-named"} == set(workloads(complete()))
    for server, (numbers, users) in REACHED.items():
        has = {port["containerPort"] for port in the_container(workloads(complete())[server])["ports"]}
        assert set(numbers) <= has, server
        for user in users:
            rules = policies[user]["spec"]["egress"]
            reached = [
                port["port"]
                for rule in rules
                for peer in rule["to"]
                if peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component") == server
                for port in rule["ports"]
            ]
            assert set(numbers) <= set(reached), (user, server)
    for server, number in SCRAPED.items():
        has = {port["containerPort"] for port in the_container(workloads(complete())[server])["ports"]}
        assert number in has, server


def test_what_is_monitored_has_a_port_of_that_name_and_every_scraped_pod_is() -> None:
    objects = built("prod-full")
    chosen: set[str] = set()
    for one in named(objects, "PodMonitor").values():
        selector = one["spec"]["selector"]
        for name, workload in workloads(objects).items():
            labels = workload["spec"]["template"]["metadata"]["labels"]
            wanted = all(labels[rule["key"]] in rule["values"] for rule in selector.get("matchExpressions", ()))
            if wanted and selector.get("matchLabels", {}).items() <= labels.items():
                chosen.add(name)
                ports = {port["name"] for port in the_container(workload)["ports"]}
                assert {endpoint["port"] for endpoint in one["spec"]["podMetricsEndpoints"]} <= ports, name
    assert chosen == set(SCRAPED)


def test_the_dashboard_is_the_checked_in_one() -> None:
    shown = named(complete(), "ConfigMap")["weavloader-dashboard"]["data"]["weavloader.json"]
    assert shown == dashboard_text()
    assert shown == (PROJECT_ROOT / "metrics" / "artifacts" / "grafana-dashboard.json").read_text()
