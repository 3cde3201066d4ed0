"""The images and the compose files on a real engine: what a person's `docker-compose up -d` brings.

Redis, Weaviate, Triton with the light models, Prometheus and the Redis exporter are real there too, each in a stand-in
of its image; Grafana alone is a fake, which reads what Grafana would be given.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import PROJECT_ROOT, load
from stack import weaviate
from tests.containers.engine import Engine, NoEngine, running, stand_in
from tests.containers.files import COMPOSE, CPU_FILE, ROLES_FILE, services
from tests.fixtures.stack import until
from tools.manifests.objects import Object
from tools.manifests.overlays import NODES
from tools.manifests.parts import weaviate as store_manifests

pytestmark = [
    pytest.mark.debian(group) for group in ("docker", "docker-compose", "debootstrap", "prometheus", "redis-exporter")
]

ALL = ("-f", "docker-compose.yml")
SPLIT = (*ALL, "-f", str(ROLES_FILE))
#: As a person's shell has them: a login, and a storage that is not there, since no network is.
SHELL = {
    "SAGE_USER": "somebody",
    "SAGE_PASS": "a password",
    "WEAVLOADER_SAGE_QUERY_URL": "http://127.0.0.1:9",
    "WEAVLOADER_POLL_BUSY": "1",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A running engine with every image; left out, with the reason, where none can run."""
    try:
        with running() as found:
            stand_in(found, weaviate.install(load().settings.paths.cache, print).binary)
            found.compose("build", "secrets", "triton")
            yield found
    except NoEngine as why:
        pytest.skip(f"no Docker engine: {why}")


@pytest.fixture(scope="module")
def up(engine: Engine) -> Iterator[Engine]:
    """The whole installation, with no file prepared; gone afterwards with all its volumes."""
    engine.compose("down", "--volumes", "--remove-orphans", "--timeout", "1")
    try:
        engine.compose("up", "-d", "--no-build", **SHELL)
        yield engine
    finally:
        engine.compose(*SPLIT, "down", "--volumes", "--remove-orphans", "--timeout", "1")


def states(engine: Engine) -> dict[str, list[str]]:
    """The health of a service's containers, of those without a check their state."""
    health = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
    shape = '{{index .Config.Labels "com.docker.compose.service"}} ' + health
    ids = engine.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=weavloader").split()
    found: dict[str, list[str]] = {}
    for line in engine.docker("inspect", "--format", shape, *ids).splitlines():
        service, state = line.split()
        found.setdefault(service, []).append(state)
    return found


def main(engine: Engine, service: str, *words: str, **options: float) -> str:
    """A command of main.py in a container, as a person runs it."""
    return engine.compose(*SPLIT, "exec", "-T", service, "python", "main.py", *words, **options)


def test_every_service_is_healthy(up: Engine) -> None:
    wanted = {name: ["exited" if name == "secrets" else "healthy"] for name in services(COMPOSE)}
    until(lambda: states(up) == wanted, 60, "healthy")


def test_a_picture_lands_and_is_found_with_the_token_of_the_volume(up: Engine, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("coffee.png", "rocket.jpg"):
        shutil.copy(photos / name, folder / name)
    folder.chmod(0o755)
    up.docker("cp", folder, f"{up.compose('ps', '-q', 'weavloader').strip()}:/data/pictures")
    main(up, "weavloader", "replay", "/data/pictures", "--until-landed", "--interval", "0.1", seconds=90)
    assert "landed 2, dead 0, skipped 0, forgotten 0, difference 0" in main(up, "weavloader", "audit")
    token = up.compose("exec", "-T", "web", "cat", "/secrets/web_read_token").strip()
    address = "http://127.0.0.1:8000/api/search?q=a+cup+of+coffee&limit=1"
    found = json.loads(up.outside("curl", "--silent", "--header", f"Authorization: Bearer {token}", address))
    assert found["results"][0]["filename"] == "coffee.png"


def test_without_a_token_or_login_nothing_is_told(up: Engine) -> None:
    for address in ("8000/api/search?q=x", "5555/api/workers"):
        shown = up.outside(
            "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", f"127.0.0.1:{address}"
        )
        assert shown == "401", address


def test_only_loopback_listens_and_only_where_it_should(up: Engine) -> None:
    listening = {line.split()[3] for line in up.outside("ss", "-ltnH").splitlines()}
    assert listening == {f"127.0.0.1:{port}" for port in (3000, 5555, 8000, 8080)}


def test_no_container_of_ours_is_root_or_may_write_its_image(up: Engine) -> None:
    for service in ("weavloader", "web", "triton", "redis"):
        script = "id -u; touch /written 2>&1 || true"
        user, refused = up.compose("exec", "-T", service, "sh", "-c", script).splitlines()
        assert user != "0", service
        assert "Read-only file system" in refused, service


def test_prometheus_scrapes_all_parts(up: Engine) -> None:
    def jobs() -> set[str]:
        address = "http://127.0.0.1:9090/api/v1/query?query=up==1"
        answer = json.loads(up.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", address))
        return {one["metric"]["job"] for one in answer["data"]["result"]}

    until(lambda: jobs() == {"weavloader", "redis", "weaviate", "triton"}, 60, "scraped")


def split(up: Engine) -> None:
    """One service per role, in the place of the single container, or as it is already."""
    up.compose("rm", "--stop", "--force", "weavloader", **SHELL)
    scaled = ("--scale", "processor=2", "--scale", "scheduler=2")
    up.compose(*SPLIT, "up", "-d", "--no-build", *scaled, **SHELL)


def test_roles_split_and_scaled_carry_on_with_what_is_there(up: Engine) -> None:
    split(up)
    roles = [name for name, service in services(ROLES_FILE).items() if "image" in service]
    wanted = {name: ["healthy"] * (2 if name in ("processor", "scheduler") else 1) for name in roles}
    until(lambda: wanted.items() <= states(up).items(), 90, "every role")
    # the pictures of the single container are in its ledger and its store
    assert "landed 2, dead 0, skipped 0, forgotten 0, difference 0" in main(up, "metrics", "audit")
    assert "coffee.png" in main(up, "web", "search", "a cup of coffee", "--limit", "1")

    def answered() -> str:
        ready = json.loads(up.outside("curl", "--silent", "http://127.0.0.1:8080/ready"))
        return str(ready["parts"]["processor"]["detail"])

    until(lambda: answered() == "2 answered", 30, "both processors")
    acting = up.compose(*SPLIT, "logs", "--no-color", "scheduler").count("beat: Acquired lock")
    assert acting == 1


def test_with_a_service_per_role_added_pictures_land(up: Engine, photos: Path, tmp_path: Path) -> None:
    split(up)
    shutil.copy(photos / "chelsea.png", tmp_path / "cat.png")
    tmp_path.chmod(0o755)
    pictures = ("run", "--rm", "-T", "-v", f"{tmp_path}:/pictures:ro", "cleaner")
    said = up.compose(*SPLIT, *pictures, "add", "/pictures", "--until-landed", seconds=120, **SHELL)
    assert "1 landed" in said
    assert "cat.png" in main(up, "web", "search", "a cat", "--limit", "1")


def test_larger_models_are_asked_for_before_the_first_start_as_the_guide_says_it(engine: Engine) -> None:
    """With nothing made before; no hub is reached here, which one line tells."""
    guide = (PROJECT_ROOT / "docs" / "deploy.md").read_text().partition("\n### Larger models without a GPU\n")[2]
    made, asked = re.findall(r"^docker-compose \$files run (.+)$", guide.partition("\n### ")[0], re.M)
    files = ("-f", COMPOSE, "-f", CPU_FILE)
    own = {"COMPOSE_PROJECT_NAME": "larger"}  # volumes that nobody has filled
    try:
        assert "weaviate_api_key: made" in engine.compose(*files, "run", "-T", *made.split(), **own)
        done = engine.compose_ended(*files, "run", "-T", *asked.split(), **own)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "no model hub answers at" in done.stderr
        assert "the models stay as they are" in done.stderr
    finally:
        engine.compose(*files, "down", "--volumes", "--timeout", "1", **own)


def test_three_nodes_of_the_store_find_each_other_as_in_kubernetes(engine: Engine, tmp_path: Path) -> None:
    """The command and the variables of the manifests, without root and on a read-only image."""
    stateful = next(one for one in store_manifests() if one["kind"] == "StatefulSet")
    container: Object = stateful["spec"]["template"]["spec"]["containers"][0]
    values = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    values |= {"RAFT_JOIN": ",".join(NODES), "RAFT_BOOTSTRAP_EXPECT": "3", "REPLICATION_MINIMUM_FACTOR": "3"}
    for key in ("weaviate_api_key", "weaviate_cluster_password"):
        (tmp_path / key).write_text("a secret of the test\n")
    tmp_path.chmod(0o755)
    headless = values["CLUSTER_JOIN"].partition(":")[0].rstrip(".")
    engine.docker("network", "create", "--internal", "store")
    try:
        for node in NODES:
            variables = [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
            engine.docker(
                *("run", "--detach", "--rm", "--name", node, "--hostname", node, "--network", "store"),
                *("--network-alias", headless, "--env", f"CLUSTER_HOSTNAME={node}", *variables),
                *("--user", "1000:1000", "--read-only", "--cap-drop", "ALL", "--volume", f"{tmp_path}:/secrets:ro"),
                *("--tmpfs", "/tmp", "--tmpfs", "/var/lib/weaviate:uid=1000,gid=1000"),
                *("--tmpfs", f"{values['BACKUP_FILESYSTEM_PATH']}:uid=1000,gid=1000"),
                *("--entrypoint", container["command"][0], container["image"], *container["command"][1:]),
            )

        def healthy() -> list[str]:
            asked = ["wget", "-q", "-O", "-", "--header", "Authorization: Bearer a secret of the test"]
            try:
                said = engine.docker("exec", NODES[0], *asked, "http://127.0.0.1:8080/v1/nodes")
            except AssertionError:
                return []
            return sorted(node["name"] for node in json.loads(said)["nodes"] if node["status"] == "HEALTHY")

        until(lambda: healthy() == list(NODES), 60, "three nodes")
    finally:
        for node in NODES:
            engine.docker("rm", "--force", node)
        engine.docker("network", "rm", "store")
