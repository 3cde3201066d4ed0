"""The embedded server: where its binary comes from, and what it lets in."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import ConfigurationError, PartUnavailable
from settings import Settings, Weaviate
from stack import weaviate_install
from stack.weaviate import Installed, api_key, install, launch, local, ports, wait_ready
from tests.fixtures.weaviate import weaviate_settings

# Enough of a server for those who only look for one.
STAND_IN = b'#!/bin/sh\necho "usage: weaviate-server --scheme="\n'


def put(path: Path, content: bytes = STAND_IN, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one folder with a shell in it and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def silent(line: str) -> None:
    raise AssertionError(f"nothing is to be reported: {line}")


def test_the_named_binary_comes_first(tmp_path: Path, no_path: Path):
    put(no_path / "weaviate")
    named = put(tmp_path / "mine")
    assert install(tmp_path, silent, binary=str(named)) == Installed(named, "WEAVIATE_BIN")


@pytest.mark.parametrize(
    ("content", "mode", "wrong"),
    [(None, 0, "is not a file"), (STAND_IN, 0o644, "is not executable"), (b"#!/bin/sh\nexit 3\n", 0o755, "not run")],
)
def test_a_wrong_named_binary_is_a_wrong_setting(tmp_path: Path, content: bytes | None, mode: int, wrong: str):
    path = tmp_path / "mine"
    if content is not None:
        put(path, content, mode)
    with pytest.raises(ConfigurationError, match=rf"WEAVIATE_BIN=.*mine .*{wrong}"):
        install(tmp_path, silent, binary=str(path))


@pytest.mark.parametrize("name", ["weaviate", "weaviate-server"])
def test_one_on_the_path_comes_before_the_cache(tmp_path: Path, no_path: Path, name: str):
    put(tmp_path / "weaviate" / weaviate_install.VERSION / "weaviate-server")
    found = put(no_path / name)
    assert install(tmp_path, silent) == Installed(found, "PATH")


def test_another_program_of_that_name_is_passed_over(tmp_path: Path, no_path: Path):
    cached = put(tmp_path / "weaviate" / weaviate_install.VERSION / "weaviate-server")
    put(no_path / "weaviate", b"#!/bin/sh\necho a client\n")
    assert install(tmp_path, silent) == Installed(cached, "cache")


class Releases:
    """A local server that publishes a release and its checksum."""

    def __init__(self, server: bytes, checksum: str | None = None, name: str = "weaviate") -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(server)
            tar.addfile(member, io.BytesIO(server))
        self.archive = packed.getvalue()
        self.checksum = hashlib.sha256(self.archive).hexdigest() if checksum is None else checksum
        self.asked: list[str] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        releases = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                releases.asked.append(self.path)
                body = f"{releases.checksum}\n".encode() if self.path.endswith(".sha256") else releases.archive
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/download"
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_official_release_is_fetched_checked_and_kept(
    tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch
):
    releases, reported = Releases(STAND_IN), []
    with releases.serving() as url:
        monkeypatch.setattr(weaviate_install, "RELEASES", url)
        installed = install(tmp_path, reported.append)
        assert installed.binary.read_bytes() == STAND_IN
        assert os.access(installed.binary, os.X_OK)
        assert install(tmp_path, silent) == Installed(installed.binary, "cache")
    assert len(releases.asked) == 2
    assert f"/v{weaviate_install.VERSION}/weaviate-v{weaviate_install.VERSION}-linux-" in releases.asked[1]
    assert any("downloading" in line for line in reported)
    assert sorted(path.name for path in installed.binary.parent.iterdir()) == [".lock", "weaviate-server"]


@pytest.mark.parametrize("checksum", ["0" * 64, "", "<html>not found</html>"])
def test_a_release_whose_checksum_is_wrong_is_not_used(
    tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: str
):
    """It is built instead; here there is no room for that, which ends with the ways out."""
    monkeypatch.setattr(weaviate_install, "BUILD_BYTES", 10**18)
    with Releases(STAND_IN, checksum).serving() as url:
        monkeypatch.setattr(weaviate_install, "RELEASES", url)
        with pytest.raises(PartUnavailable, match=r"GB free: make room.*WEAVIATE_BIN.*WEAVIATE_HOST"):
            install(tmp_path, lambda line: None)
    assert [path.name for path in (tmp_path / "weaviate" / weaviate_install.VERSION).iterdir()] == [".lock"]


@pytest.mark.parametrize("what", ["another name", "cut"])
def test_a_release_whose_archive_holds_no_server_is_told_and_built_instead(
    tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(weaviate_install, "BUILD_BYTES", 10**18)
    releases = Releases(os.urandom(100_000), name="weaviate-server" if what == "another name" else "weaviate")
    if what == "cut":
        releases.archive = releases.archive[:50_000]
        releases.checksum = hashlib.sha256(releases.archive).hexdigest()
    reported: list[str] = []
    with releases.serving() as url:
        monkeypatch.setattr(weaviate_install, "RELEASES", url)
        with pytest.raises(PartUnavailable, match=r"GB free: make room.*WEAVIATE_BIN"):
            install(tmp_path, reported.append)
    problem = "its archive holds no file weaviate" if what == "another name" else "archive is damaged|unexpected end"
    assert re.search(rf"its release cannot be downloaded \(.*({problem}).*\)\.$", reported[-1])


def test_a_build_that_fails_leaves_nothing_and_names_the_ways_out(
    tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(weaviate_install, "RELEASES", "http://127.0.0.1:1/download")
    put(no_path / "go", b'#!/bin/sh\n[ "$1" = env ] && echo go1.26.8 && exit\necho no such module >&2\nexit 1\n')
    reported: list[str] = []
    with pytest.raises(PartUnavailable, match=r"building Weaviate failed: no such module\. .*WEAVIATE_BIN"):
        install(tmp_path, reported.append)
    assert any("6 minutes" in line for line in reported)
    assert [path.name for path in (tmp_path / "weaviate" / weaviate_install.VERSION).iterdir()] == [".lock"]


BUILDING_GO = """#!/bin/sh
[ "$1" = env ] && echo go1.26.0 && exit
[ "$1 $2" = "install {module}" ] || exit 9
[ "$CGO_ENABLED $GOTOOLCHAIN" = "0 local" ] || exit 8
for folder in "$GOPATH" "$GOMODCACHE" "$GOCACHE" "$GOBIN"; do
  case "$folder" in {cache}/weaviate/*/draft-*) ;; *) exit 7;; esac
done
echo $$ > {cache}/pid
read gone < {cache}/go-on
/bin/mkdir "$GOBIN"
/bin/cp {cache}/stand-in "$GOBIN/weaviate-server"
"""


@pytest.fixture
def waiting_build(tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Go that builds, apart from the user's caches, when a line is written to the file that this gives."""
    os.mkfifo(tmp_path / "go-on")
    put(tmp_path / "stand-in")
    put(no_path / "go", BUILDING_GO.format(module=weaviate_install.MODULE, cache=tmp_path).encode())
    monkeypatch.setattr(weaviate_install, "RELEASES", "http://127.0.0.1:1/download")
    monkeypatch.setattr(weaviate_install, "HEARTBEAT_SECONDS", 0.05)
    return tmp_path / "go-on"


def test_a_build_is_pinned_apart_and_says_that_it_goes_on(tmp_path: Path, waiting_build: Path):
    reported: list[str] = []

    def report(line: str) -> None:
        reported.append(line)
        if "still building" in line:
            waiting_build.write_text("on\n")

    installed = install(tmp_path, report)
    assert installed.binary.read_bytes() == STAND_IN
    assert any("still building" in line for line in reported)
    assert sorted(path.name for path in installed.binary.parent.iterdir()) == [".lock", "weaviate-server"]


def test_an_interrupted_build_leaves_no_process_and_no_file(tmp_path: Path, waiting_build: Path):
    def interrupt(line: str) -> None:
        if "still building" in line and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(tmp_path, interrupt)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert [path.name for path in (tmp_path / "weaviate" / weaviate_install.VERSION).iterdir()] == [".lock"]


def test_what_an_interrupted_build_left_is_removed_by_the_next(
    tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left = put(tmp_path / "weaviate" / weaviate_install.VERSION / "draft-old" / "modules" / "file")
    with Releases(STAND_IN).serving() as url:
        monkeypatch.setattr(weaviate_install, "RELEASES", url)
        install(tmp_path, lambda line: None)
    assert not left.exists()


def test_two_at_once_install_it_once(tmp_path: Path, no_path: Path, monkeypatch: pytest.MonkeyPatch):
    releases = Releases(STAND_IN)
    with releases.serving() as url:
        monkeypatch.setattr(weaviate_install, "RELEASES", url)
        threads = [threading.Thread(target=install, args=(tmp_path, lambda line: None)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(releases.asked) == 2


def test_the_key_is_made_once_and_its_owners_alone(tmp_path: Path):
    key = api_key(tmp_path / "weaviate")
    assert len(key) >= 40
    assert api_key(tmp_path / "weaviate") == key
    assert (tmp_path / "weaviate" / "weaviate.key").stat().st_mode & 0o777 == 0o600
    assert api_key(tmp_path / "other") != key


def test_a_key_of_the_settings_is_the_servers(tmp_path: Path):
    settings = weaviate_settings(api_key="given")
    assert local(settings, tmp_path).api_key == "given"
    assert (
        launch(settings, Installed(tmp_path, ""), tmp_path).environment["AUTHENTICATION_APIKEY_ALLOWED_KEYS"] == "given"
    )


def test_every_port_is_named_by_its_setting():
    settings = Settings(weaviate=Weaviate(port=8090, grpc_port=50051, cluster_ports=7946))
    assert ports(settings) == {
        "WEAVIATE_PORT": 8090,
        "WEAVIATE_GRPC_PORT": 50051,
        "WEAVLOADER_WEAVIATE_CLUSTER_PORTS": 7946,
        "WEAVLOADER_WEAVIATE_CLUSTER_PORTS (+1)": 7947,
        "WEAVLOADER_WEAVIATE_CLUSTER_PORTS (+2)": 7948,
        "WEAVLOADER_WEAVIATE_CLUSTER_PORTS (+3)": 7949,
    }


@pytest.mark.parametrize("first", [80, 65534])
def test_cluster_ports_out_of_range_are_named(tmp_path: Path, first: int):
    with pytest.raises(ConfigurationError, match="WEAVLOADER_WEAVIATE_CLUSTER_PORTS"):
        launch(weaviate_settings(cluster_ports=first), Installed(tmp_path, ""), tmp_path)


def test_a_ready_server_is_told_apart_from_none(weaviate_server: Weaviate):
    wait_ready(Settings(weaviate=weaviate_server), 5)
    with pytest.raises(PartUnavailable, match=r"was not ready after 0\.2 s.*WEAVIATE_PORT"):
        wait_ready(weaviate_settings(), 0.2)
    with pytest.raises(PartUnavailable, match="refused the API key: check WEAVIATE_API_KEY"):
        wait_ready(Settings(weaviate=weaviate_server.model_copy(update={"api_key": "wrong"})), 5)
    nobody = weaviate_settings().weaviate.grpc_port
    with pytest.raises(PartUnavailable, match="was not ready"):
        wait_ready(Settings(weaviate=weaviate_server.model_copy(update={"grpc_port": nobody})), 0.2)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_the_server_lets_nobody_in_without_its_key(weaviate_server: Weaviate, key: str | None):
    request = urllib.request.Request(f"http://127.0.0.1:{weaviate_server.port}/v1/schema")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    assert refusal.value.code == 401
    refusal.value.close()


def test_the_clusters_data_port_lets_nobody_in(weaviate_server: Weaviate):
    """It listens on every interface and knows no API keys."""
    url = f"http://127.0.0.1:{weaviate_server.cluster_ports + 1}/indices/Any/shards/any/objects?ids=x"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(url, data=json.dumps([]).encode(), method="DELETE"), timeout=10)
    assert refusal.value.code in (401, 403)
    refusal.value.close()
