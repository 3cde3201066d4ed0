"""A real Docker engine of the tests' own, without a registry: images that would be pulled are stand-ins.

The engine is Debian's, started in a network namespace of its own (no bridge or rule of the machine's changes) on data
in the user's cache folder, so that layers are built once. The base of all stand-ins is a Debian with Python 3.11, made
by debootstrap, with the packages of our images as files beside it, since nothing in that namespace reaches a registry.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from settings import PROJECT_ROOT, load
from tests.fixtures import debian

STANDINS = Path(__file__).parent / "standins"
PACKAGES = "python3,python3-venv,libpython3.11,ca-certificates,busybox,redis-server"
#: What the stand-ins are called: the names that our files would pull, by the folder in ``standins``.
PULLED = {
    "python": "python:3.11.13-slim-bookworm",
    "redis": "redis:7.2.6-bookworm",
    "weaviate": "semitechnologies/weaviate:1.37.14",
    "redis-exporter": "oliver006/redis_exporter:v1.66.0-alpine",
    "prometheus": "prom/prometheus:v2.53.3",
    "grafana": "grafana/grafana:11.4.0",
}
OLDER = "python_full_version < '3.11.3'"
START_SECONDS = 30
PULL_SECONDS = 600


class NoEngine(Exception):
    """Why there is no engine on this machine."""


def cache() -> Path:
    """Where the engine, its images and the base are kept."""
    return load().settings.paths.cache / "containers"


class Engine:
    """The running engine; commands are those of a person's terminal."""

    def __init__(self, folder: Path, daemon: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.daemon = daemon
        packages = debian.folder_of("docker-compose") / "usr/lib/python3/dist-packages"
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_BUILDKIT": "0",  # the stand-ins are in the engine alone
            "COMPOSE_PROJECT_NAME": "weavloader",
            "COMPOSE_HTTP_TIMEOUT": "300",  # a busy disk may take its time to let containers go
            "PYTHONPATH": str(packages),
            "PYTHONWARNINGS": "ignore",
            "LANG": "C.UTF-8",
        }

    def docker(self, *words: str | Path, seconds: float = PULL_SECONDS) -> str:
        """One command of docker. Raises ``AssertionError`` with what it said."""
        return _said(self._ended([debian.program("docker"), *words], {}, seconds))

    def compose(self, *words: str | Path, seconds: float = PULL_SECONDS, **extra: str) -> str:
        """One command of docker-compose 1.29 in the project's folder. Raises ``AssertionError`` with what it said."""
        return _said(self.compose_ended(*words, seconds=seconds, **extra))

    def compose_ended(
        self, *words: str | Path, seconds: float = PULL_SECONDS, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """The same, however it ends."""
        command = ["/usr/bin/python3", debian.program("docker-compose"), *words]
        return self._ended(command, extra, seconds)

    def outside(self, *words: str | Path, seconds: float = 30) -> str:
        """A command on the engine's host, where what is published listens."""
        pid = (self.folder / "pid").read_text().strip()
        return _said(self._ended(["nsenter", "--net", f"--target={pid}", *words], {}, seconds))

    def _ended(
        self, command: list[str | Path], extra: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=PROJECT_ROOT,
            env={**self.environment, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    command = " ".join(map(str, done.args))
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@contextmanager
def running() -> Iterator[Engine]:
    """The engine while the block runs. Raises ``NoEngine`` where this machine lets none run."""
    if os.geteuid() != 0 or sys.version_info[:2] != (3, 11):
        raise NoEngine("it needs root, and Python 3.11 for the packages of the images")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        daemon = _start(folder)
        try:
            yield Engine(folder, daemon)
        finally:
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
            daemon.kill()
            daemon.wait()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    packages = debian.folder_of("docker")
    programs = folder / "bin"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    (programs / "docker").symlink_to(debian.program("docker"))  # docker-compose builds with it
    for name in ("iptables", "ip6tables", "iptables-save", "iptables-restore"):
        if not shutil.which(name):  # the package's own links are made where it is installed
            (programs / name).symlink_to(packages / "usr/sbin/xtables-nft-multi")
    libraries = packages / "usr/lib/x86_64-linux-gnu"
    environment = {
        "PATH": f"{programs}:{packages / 'usr/bin'}:{packages / 'usr/sbin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
    }
    command = [
        *(debian.program("dockerd"), "--log-level=warn", f"--host=unix://{folder}/docker.sock"),
        *(f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}"),
    ]
    (folder / "pid").unlink(missing_ok=True)
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            # the guard ends the engine and all containers with this process, however it ends
            [
                *(sys.executable, "-S", PROJECT_ROOT / "stack" / "guard.py", "--watch", "--stop", "20", "--grace", "5"),
                *("--", "unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    engine = Engine(folder, daemon)
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(AssertionError):
            engine.docker("version")
            return daemon
        if daemon.poll() is not None or time.monotonic() > deadline:
            daemon.kill()
            daemon.wait()
            lines = log.read_text("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise NoEngine(f"dockerd does not run here: {lines[-1]}")
        time.sleep(0.1)


def stand_in(engine: Engine, weaviate: Path) -> None:
    """Make every image that our files would pull, under its name; what is there already costs a second."""
    base = _base(engine)
    for name, image in PULLED.items():
        context = engine.folder / "contexts" / name
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(STANDINS / name, context)
        match name:
            case "python":
                _wheels(context / "wheels")
            case "weaviate":
                _linked(weaviate, context / "weaviate")
            case "prometheus":
                _linked(debian.program("prometheus"), context / "prometheus")
            case "redis-exporter":
                _linked(debian.program("prometheus-redis-exporter"), context / "redis_exporter")
        engine.docker("build", "--quiet", "--build-arg", f"BASE={base}", "--tag", image, context)
    engine.docker("image", "prune", "--force", "--filter", "until=168h")


def _base(engine: Engine) -> str:
    name = f"weavloader-base:{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}"
    with suppress(AssertionError):
        engine.docker("image", "inspect", name)
        return name
    root = engine.folder / "base"
    shutil.rmtree(root, ignore_errors=True)
    strapping = debian.folder_of("debootstrap")
    subprocess.run(
        [debian.program("debootstrap"), "--variant=minbase", f"--include={PACKAGES}", "bookworm", root],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBOOTSTRAP_DIR": str(strapping / "usr/share/debootstrap")
            if strapping.exists()
            else "/usr/share/debootstrap",
        },
        check=True,
        capture_output=True,
        timeout=PULL_SECONDS,
    )
    tar = subprocess.Popen(["tar", "-C", root, "--exclude=./var/cache/apt/archives/*.deb", "-c", "."], stdout=-1)
    subprocess.run(
        [debian.program("docker"), "import", "-", name],
        env=engine.environment,
        stdin=tar.stdout,
        check=True,
        capture_output=True,
    )
    assert tar.wait() == 0
    shutil.rmtree(root)
    return name


def _wheels(folder: Path) -> None:
    """The packages of both images, as files."""
    for pins in (PROJECT_ROOT / "requirements.txt", PROJECT_ROOT / "triton" / "requirements.txt"):
        kept = cache() / "wheels" / hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
        if not kept.exists():
            draft = kept.with_name(kept.name + ".new")
            shutil.rmtree(draft, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", draft, "-r", pins]
            # Debian's Python is 3.11.2, which wants one package more than a newer one
            command += [pin.partition(";")[0].strip() for pin in pins.read_text().splitlines() if OLDER in pin]
            subprocess.run(command, check=True, timeout=PULL_SECONDS)
            draft.rename(kept)
        shutil.copytree(kept, folder, copy_function=os.link, dirs_exist_ok=True)


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy(source, target)
