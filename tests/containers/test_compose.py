"""The compose files: by the specification's schema, by docker-compose 1.29 itself, and by rules of our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from job_system.queues import ROLES as WORKERS
from metrics.artifacts import scraping
from metrics.folder import of_host as folder_of_host
from settings import PROJECT_ROOT, Hub
from stack import ROLES
from tests.containers.files import (
    COMPOSE,
    COMPOSE_FILES,
    CPU_FILE,
    GPU_FILE,
    ROLES_FILE,
    S3_FILE,
    SHARED_FILE,
    known_to_us,
    listed_settings,
    read,
    services,
    setting_names,
)
from tests.fixtures.debian import folder_of

#: Settings that no container takes from outside: where it listens and keeps things is fixed, the rest is of `up`.
FIXED = {
    *("WEAVLOADER_DATA_DIR", "WEAVLOADER_CACHE_DIR", "WEAVLOADER_ROLE_METRICS", "WEAVLOADER_STOP_LIMIT"),
    *("WEAVLOADER_METRICS_HOST", "WEAVLOADER_METRICS_PORT", "WEAVLOADER_FLOWER_HOST", "WEAVLOADER_FLOWER_PORT"),
    *("WEAVLOADER_FLOWER_URL", "WEAVLOADER_WEB_HOST", "WEAVLOADER_WEB_PORT"),
    *("WEAVLOADER_REDIS_PORT", "WEAVLOADER_TRITON_HTTP_PORT", "WEAVLOADER_TRITON_METRICS_PORT"),
    *("WEAVLOADER_MODEL_REPOSITORY", "WEAVLOADER_LOAD_MODELS", "WEAVIATE_BIN", "WEAVLOADER_WEAVIATE_CLUSTER_PORTS"),
    # a secret that one command alone needs: docker-compose.cpu.yml tells how it is given
    "HF_TOKEN",
    *("WEAVLOADER_WEAVIATE_METRICS_PORT", "WEAVLOADER_PROMETHEUS", "WEAVLOADER_PROMETHEUS_PORT"),
}
#: Variables without which a file says what is missing.
REQUIRED = {
    SHARED_FILE: ("REDIS_PASSWORD", "WEAVLOADER_SHARED_ADDRESS"),
    S3_FILE: ("BACKUP_S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
PUBLISHED = {"weavloader": {8080, 5555}, "web": {8000}, "grafana": {3000}}
LOOPBACK = re.compile(r"\$\{WEAVLOADER_PUBLISH:-127\.0\.0\.1\}:(\d+):\1")
OURS = ("weavloader", "web", "secrets")
ROLES_OF_MODELS = ("CAPTIONER", "EMBEDDER")


def variables(value: Any) -> set[str]:
    """Every ``${NAME…}`` of a document, by name."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)", json.dumps(value)))


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda path: path.name)
def test_the_file_meets_the_compose_specification(file: Path) -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(read(file))


@pytest.mark.debian("docker-compose")
@pytest.mark.parametrize(
    "further",
    [(), (ROLES_FILE,), (GPU_FILE,), (CPU_FILE,), (SHARED_FILE,), (S3_FILE,)],
    ids=lambda names: "".join(map(str, names)),
)
def test_docker_compose_1_29_reads_it_without_any_variable(
    debian: Callable[[str], Path], further: tuple[Path, ...]
) -> None:
    words = [word for file in (COMPOSE, *further) for word in ("-f", file)]
    required = next((dict.fromkeys(REQUIRED[file], "10.0.0.1") for file in further if file in REQUIRED), {})
    done = as_docker_compose_reads_it(debian("docker-compose"), words, required)
    assert (done.returncode, done.stderr) == (0, "")


def as_docker_compose_reads_it(
    program: Path, words: list[str | Path], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    packages = folder_of("docker-compose") / "usr/lib/python3/dist-packages"
    return subprocess.run(
        ["/usr/bin/python3", "-W", "ignore", program, *words, "config"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), **environment},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.debian("docker-compose")
@pytest.mark.parametrize(
    ("file", "environment", "joined"),
    [
        (CPU_FILE, {}, {"inside"}),
        (CPU_FILE, {"TRITON_NETWORK": "outside"}, {"inside", "outside"}),
        (GPU_FILE, {}, {"inside", "outside"}),
        (GPU_FILE, {"TRITON_NETWORK": "inside"}, {"inside"}),
    ],
)
def test_triton_has_a_way_out_only_where_it_fetches_and_no_other_service_has_the_hub_s_token(
    debian: Callable[[str], Path], file: Path, environment: dict[str, str], joined: set[str]
) -> None:
    secret = {"HF_TOKEN": "hf_a_token_of_nobody"}
    words = ["-f", COMPOSE, "-f", file]
    done = as_docker_compose_reads_it(debian("docker-compose"), words, {**environment, **secret})
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert set(found["triton"]["networks"]) == joined
    assert [name for name, service in found.items() if "HF_TOKEN" in service.get("environment", {})] == ["triton"]


@pytest.mark.debian("docker-compose")
@pytest.mark.parametrize(
    ("environment", "gpus"), [({}, "0"), ({"TRITON_GPUS": "0,1"}, "0,1"), ({"TRITON_GPUS": "all"}, "all")]
)
def test_triton_asks_for_the_first_gpu_or_for_those_that_are_named(
    debian: Callable[[str], Path], environment: dict[str, str], gpus: str
) -> None:
    """By their numbers: docker-compose 1.29 takes a count that a variable gives for text, and refuses it."""
    done = as_docker_compose_reads_it(debian("docker-compose"), ["-f", COMPOSE, "-f", GPU_FILE], environment)
    assert done.returncode == 0, done.stderr
    reserved = yaml.safe_load(done.stdout)["services"]["triton"]["deploy"]["resources"]["reservations"]
    assert reserved["devices"] == [{"driver": "nvidia", "device_ids": [gpus], "capabilities": ["gpu"]}]


@pytest.mark.parametrize("file", [CPU_FILE, GPU_FILE], ids=lambda path: path.name)
def test_the_file_says_how_processors_elsewhere_are_told_its_models(file: Path) -> None:
    environment = services(file)["weavloader"]["environment"]
    names = [f"WEAVLOADER_{role}" for role in ROLES_OF_MODELS]
    exports = " ".join(f"{name}={environment[name].rpartition(':-')[2].rstrip('}')}" for name in names)
    for text in (file.read_text(), (PROJECT_ROOT / "docs" / "deploy.md").read_text()):
        assert f"export {exports}" in text


@pytest.mark.parametrize("file", [COMPOSE, ROLES_FILE], ids=lambda path: path.name)
def test_every_service_has_health_limits_restart_and_bounded_logs(file: Path) -> None:
    known = set(services(COMPOSE)) | set(services(ROLES_FILE))
    for name, service in services(file).items():
        if "image" not in service:
            continue  # it changes one of the other file
        assert service["healthcheck"].get("test") or name == "secrets", name
        assert service["restart"] == ("no" if name == "secrets" else "unless-stopped"), name
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
        assert service["logging"]["options"]["max-size"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service.get("depends_on", {})) <= known, name
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed == "secrets" else "service_healthy"
            assert how == {"condition": expected}, name
        image = service["image"]
        assert re.search(r":(\$\{\w+:-)?v?\d[\w.}-]*$", image), f"{image} is not pinned"
        assert ("build" in service) == image.startswith("weavloader"), name
        assert isinstance(service["cpus"], str) or service["cpus"] <= 1, "a host may have one CPU"


def test_only_page_flower_metrics_and_grafana_are_published_on_one_address() -> None:
    for file, further in ((COMPOSE, {}), (ROLES_FILE, {"metrics": {8080}, "flower": {5555}})):
        for name, service in services(file).items():
            ports = [LOOPBACK.fullmatch(port) for port in service.get("ports", ())]
            assert all(ports), name
            expected = (PUBLISHED if file == COMPOSE else further).get(name, set())
            assert {int(port[1]) for port in ports if port} == expected, name


def test_the_parts_have_no_way_out() -> None:
    document = read(COMPOSE)
    assert document["networks"]["inside"] == {"internal": True}
    for name in ("redis", "weaviate", "triton", "redis-exporter"):
        assert document["services"][name]["networks"] == ["inside"]
    named = {name: service for name, service in document["services"].items() if "ports" in service}
    assert all("outside" in service["networks"] for service in named.values())
    volumes = {
        volume.partition(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert volumes == set(document["volumes"])


@pytest.mark.parametrize("file", [CPU_FILE, GPU_FILE], ids=lambda path: path.name)
def test_a_mirror_is_named_to_triton_too(file: Path) -> None:
    assert services(file)["triton"]["environment"]["HF_ENDPOINT"] == f"${{HF_ENDPOINT:-{Hub().endpoint}}}"


def test_what_is_mounted_from_the_project_is_there() -> None:
    for service in services(COMPOSE).values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (PROJECT_ROOT / volume.partition(":")[0]).exists(), volume


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda path: path.name)
def test_our_containers_get_variables_that_the_product_reads(file: Path) -> None:
    for name, service in services(file).items():
        if name in OURS or str(service.get("image", "")).startswith("weavloader:"):
            unknown = [variable for variable in service.get("environment", {}) if not known_to_us(variable)]
            assert unknown == [], name


def test_every_setting_reaches_the_containers_or_is_fixed_there() -> None:
    plain = {name for name in setting_names() if not name.endswith("_FILE")}
    listed = listed_settings()
    assert len(listed) == len(set(listed))
    fixed = set(services(COMPOSE)["weavloader"]["environment"]) & plain
    assert set(listed) | fixed | FIXED == plain
    assert set(listed) & (fixed | FIXED) == set()
    for file, name in ((COMPOSE, "weavloader"), (COMPOSE, "web"), *((ROLES_FILE, role.name) for role in WORKERS)):
        assert services(file)[name]["env_file"] == ["deploy/settings.env"]


def test_the_secrets_are_made_of_the_files_that_are_read() -> None:
    from deploy.make_secrets import wanted
    from settings import Settings

    made = set(wanted(Settings()))
    text = "".join(file.read_text() for file in COMPOSE_FILES)
    assert set(re.findall(r"/secrets/(\w+)", text)) == made
    given = set(services(COMPOSE)["secrets"]["environment"])
    assert given <= setting_names() & set(listed_settings())


def test_the_example_names_every_variable_of_the_files() -> None:
    used = set().union(*(variables(read(file)) for file in COMPOSE_FILES)) | {"HF_TOKEN"}
    example = (PROJECT_ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.M))
    assert used <= named
    assert named - used <= set(listed_settings())
    assert [line for line in example.splitlines() if line and not re.match(r"#|[A-Z0-9_]+=$", line)] == []


def test_the_store_can_copy_itself_onto_a_volume_of_its_own_or_into_a_bucket() -> None:
    store = services(COMPOSE)["weaviate"]
    environment = store["environment"]
    volumes = dict(volume.split(":")[:2][::-1] for volume in store["volumes"])
    assert environment["ENABLE_MODULES"] == "backup-filesystem"
    own, data = volumes[environment["BACKUP_FILESYSTEM_PATH"]], volumes[environment["PERSISTENCE_DATA_PATH"]]
    assert own != data, "a volume that is lost must not take its copies with it"
    bucket = services(S3_FILE)["weaviate"]
    assert bucket["environment"]["ENABLE_MODULES"] == "backup-s3"
    assert "outside" in bucket["networks"]
    assert all(f"${{{name}:?" in str(bucket["environment"].values()) for name in REQUIRED[S3_FILE])


def test_the_second_file_has_every_role_and_leaves_the_single_container_out() -> None:
    split = services(ROLES_FILE)
    assert {name for name, service in split.items() if "image" in service} == set(ROLES) - {"web"}
    assert split["weavloader"] == {"profiles": ["all-in-one"]}
    for name in set(ROLES) - {"web"}:
        assert split[name]["command"] == [name]


def test_every_processor_reads_the_pictures_that_are_added_and_shares_nothing_that_it_writes() -> None:
    from sources.own import FOLDER

    kept = Path("/data", FOLDER)
    for file, name in ((COMPOSE, "weavloader"), (COMPOSE, "web"), (ROLES_FILE, "cleaner")):
        assert "data:/data" in services(file)[name]["volumes"], name
    processor = services(ROLES_FILE)["processor"]
    assert "data:/data:ro" in processor["volumes"]
    own = [Path(mount.partition(":")[0]) for mount in processor["tmpfs"]]
    assert [folder for folder in own if folder in (kept, *kept.parents)] == [], "the pictures would be hidden"
    assert folder_of_host(Path("/data")).is_relative_to("/data/run")
    assert Path("/data/run") in own
    made = re.search(r"install -d .*", (PROJECT_ROOT / "Dockerfile").read_text())
    assert made
    assert "/data/run" in made[0].split(), "nothing makes a folder in what is mounted read-only"


def test_a_stop_gives_running_images_their_time() -> None:
    for file, name in ((COMPOSE, "weavloader"), (ROLES_FILE, "processor")):
        service = services(file)[name]
        environment = service["environment"]
        finish = int(environment["WEAVLOADER_STOP_SECONDS"].rpartition(":-")[2].rstrip("}"))
        assert finish < int(environment["WEAVLOADER_STOP_LIMIT"]) < int(service["stop_grace_period"].rstrip("s"))


@pytest.mark.parametrize("file", [COMPOSE, ROLES_FILE], ids=lambda path: path.name)
def test_prometheus_scrapes_services_that_are_there(file: Path) -> None:
    config = next(word for word in services(file)["prometheus"]["command"] if word.startswith("--config.file="))
    mounted = dict(volume.split(":")[:2] for volume in services(COMPOSE)["prometheus"]["volumes"])
    folder = next(path for path, place in mounted.items() if place == "/etc/weavloader")
    scraped = read(PROJECT_ROOT / folder / config.partition("/etc/weavloader/")[2])
    names = {
        target.partition(":")[0]
        for job in scraped["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    } | {name for job in scraped["scrape_configs"] for dns in job.get("dns_sd_configs", ()) for name in dns["names"]}
    assert names <= set(services(COMPOSE)) | set(services(file))
    if file == ROLES_FILE:
        assert set(scraping.ROLES_WITH_ENDPOINT) <= names


def test_on_the_cpu_the_models_that_are_asked_for_are_those_that_triton_loads_from_one_volume() -> None:
    from stack import light

    triton, product = (services(CPU_FILE)[name] for name in ("triton", "weavloader"))
    loaded = set(triton["environment"]["TRITON_MODELS"].removeprefix("${TRITON_MODELS:-").rstrip("}").split(","))
    asked = {product["environment"][f"WEAVLOADER_{role}"].rpartition(":-")[2].rstrip("}") for role in ROLES_OF_MODELS}
    assert loaded == asked == set(light.models())
    assert triton["volumes"] == product["volumes"] == ["models:/cache"]
    dockerfile = (PROJECT_ROOT / "triton" / "Dockerfile").read_text()
    assert product["environment"]["WEAVLOADER_CACHE_DIR"] == "/cache"
    assert f"TRITON_WEIGHTS={light.weights(Path('/cache'))} " in dockerfile
    assert "\nFROM light AS cpu\n" in dockerfile
