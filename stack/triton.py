"""The embedded Triton: a real server from the ``nvidia-pytriton`` wheel, in a virtual environment of its own.

The server's Python backend needs numpy below 2 and the weights of the light models, neither of which belongs into the
product's own environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from errors import ConfigurationError, PartUnavailable
from inference.model_config import NEEDS
from settings import PROJECT_ROOT, Settings, environment_variable
from stack import light
from stack.launch import KEEPING_MEMORY, Launch

REQUIREMENTS = PROJECT_ROOT / "triton" / "requirements.txt"
LOOPBACK = "127.0.0.1"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class TritonInstallation:
    """The virtual environment with the server, and the folder of libpython (None: the loader finds it by itself)."""

    venv: Path
    libpython: Path | None

    @property
    def packages(self) -> Path:
        """The environment's site-packages."""
        return self.venv / "lib" / f"python{_PYTHON}" / "site-packages"


def install(cache: Path, report: Callable[[str], None]) -> TritonInstallation:
    """The environment under ``cache``, made at the first call and found at every later one, also by another process.

    Raises ``ConfigurationError`` when this machine's Python lacks its shared library or ``venv``, and
    ``PartUnavailable`` when the packages cannot be had.
    """
    libpython = find_libpython()
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    venv = cache / f"triton-{_PYTHON}-{pins}"
    marker = venv / "complete"
    if not _complete(venv, marker):
        with _locked(cache / f"{venv.name}.lock"):
            if not _complete(venv, marker):
                report(f"Installing Triton and the light models' weights (700 MB) in {venv}: 15 s to 3 minutes, once.")
                shutil.rmtree(venv, ignore_errors=True)
                _create(venv)
                marker.touch()
    return TritonInstallation(venv, libpython)


def shm_prefix(data: Path) -> str:
    """What the names of the server's shared-memory regions begin with: one per data folder, for the guard to remove."""
    return f"weavloader-{_short_hash(data)}-"


def launch(
    settings: Settings, installed: TritonInstallation, data: Path, models: Sequence[str] | None = None
) -> Launch:
    """How to start the server on loopback with ``models`` (else those of the setting, else the configured two).

    A model that cannot be loaded ends the server. Models are loaded by name, so that one whose process died can be
    unloaded and loaded again.
    """
    section = settings.triton
    prefix = shm_prefix(data)
    options = {
        "id": _server_id(settings),
        "model-control-mode": "explicit",
        "disable-auto-complete-config": None,
        "backend-directory": str(_backend_folder(installed, data)),
        "backend-config": f"python,shm-region-prefix-name={prefix}",
        "grpc-address": LOOPBACK,
        "grpc-port": str(section.port),
        "http-address": LOOPBACK,
        "http-port": str(section.http_port),
        "metrics-address": LOOPBACK,
        "metrics-port": str(section.metrics_port),
        "allow-gpu-metrics": "false",
        "exit-timeout-secs": "5",
    }
    argv = [str(installed.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver")]
    argv += [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    loaded = _models(settings, models)
    argv += [f"--model-repository={folder}" for folder in _repositories(section.repository, loaded)]
    argv += [f"--load-model={name}" for name in loaded]
    libraries = [installed.packages / "nvidia_pytriton.libs", installed.libpython]
    environment = {
        # The backend's embedded interpreter finds its packages through the first python3 on PATH.
        "PATH": _joined(installed.venv / "bin", environment_variable("PATH")),
        "LD_LIBRARY_PATH": _joined(*libraries, environment_variable("LD_LIBRARY_PATH")),
        "PYTHONHOME": "",
        "PYTHONPATH": "",
        "TOKENIZERS_PARALLELISM": "false",
        "TRITON_WEIGHTS": str(light.weights(settings.paths.cache)),
        **KEEPING_MEMORY,
    }
    return Launch(tuple(argv), environment, prefix)


def wait_ready(settings: Settings, deadline_seconds: float, models: Sequence[str] | None = None) -> None:
    """Return when this very server answers and its models are ready.

    Raises ``PartUnavailable`` at the deadline, saying what was missing.
    """
    deadline = time.monotonic() + deadline_seconds
    while (missing := _not_ready(settings, models)) is not None:
        if time.monotonic() > deadline:
            raise PartUnavailable(
                "triton",
                f"Triton on port {settings.triton.http_port} was not ready after {deadline_seconds:g} s: {missing}."
                " Its log says more.",
            )
        time.sleep(_POLL_SECONDS)


def _not_ready(settings: Settings, models: Sequence[str] | None) -> str | None:
    base = f"http://{LOOPBACK}:{settings.triton.http_port}/v2"
    try:
        name = json.loads(_get(base))["name"]
        if name != _server_id(settings):
            return f"another Triton ({name}) answers there"
        for model in _models(settings, models):
            try:
                _get(f"{base}/models/{model}/ready")
            except urllib.error.HTTPError:
                return f"the model {model} is not ready"
        _get(f"{base}/health/ready")
    except (OSError, ValueError, KeyError) as error:
        return f"it does not answer ({error})"
    return None


def _get(url: str) -> bytes:
    """One request to loopback, past any proxy that the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        body: bytes = answer.read()
        return body


def check_models(settings: Settings, models: Sequence[str]) -> None:
    """Return when the model repository has them all, and the weights of those that are fetched are there.

    Raises ``ConfigurationError`` naming the first that is not.
    """
    repository, cache = settings.triton.repository, settings.paths.cache
    for name in models:
        if (repository / name / "config.pbtxt").is_file():
            continue
        if name not in light.models():
            raise ConfigurationError(
                f"there is no model {name!r} in the model repository {repository}: name another in WEAVLOADER_CAPTIONER"
                " or WEAVLOADER_EMBEDDER, put it there, or set TRITON_HOST to a server that has it"
            )
        if light.lacking(cache, name):
            raise ConfigurationError(
                f"the weights of {name} are not in {light.weights(cache)}: get them by `python main.py models fetch"
                " light`, or go back by `python main.py models use packaged`"
            )


def _repositories(own: Path, models: Sequence[str]) -> tuple[Path, ...]:
    """The model repository, and that of the fetched models where one of them is to be loaded from there."""
    fetched = [name for name in models if name in light.models() and not (own / name).is_dir()]
    return (own, light.REPOSITORY) if fetched else (own,)


def _models(settings: Settings, models: Sequence[str] | None) -> Sequence[str]:
    section = settings.triton
    named = models or section.models or (section.captioner, section.embedder)
    return tuple(dict.fromkeys(needed for name in named for needed in (*NEEDS.get(name, ()), name)))


def _server_id(settings: Settings) -> str:
    """The server's own name, one per data folder: tells it from another Triton on the same port."""
    return f"weavloader-{_short_hash(settings.paths.data)}"


def _short_hash(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def _joined(*parts: Path | str | None) -> str:
    return ":".join(str(part) for part in parts if part)


def _backend_folder(installed: TritonInstallation, data: Path) -> Path:
    """A backend folder of links: the wheel keeps the Python backend's parts and its stub apart."""
    server = installed.packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
    library = server / "backends" / "python" / "libtriton_python.so"
    helper = server / "backends" / "python" / "triton_python_backend_utils.py"
    folder = data / "backends"
    (folder / "python").mkdir(parents=True, exist_ok=True)
    for target in (stub, library, helper):
        link = folder / "python" / target.name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return folder


def _complete(venv: Path, marker: Path) -> bool:
    """The marker is there, and so is the interpreter that the environment was made from."""
    return marker.exists() and (venv / "bin" / "python3").exists()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create(venv: Path) -> None:
    made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True, text=True, check=False)
    if made.returncode:
        raise ConfigurationError(
            f"Python {_PYTHON} cannot make a virtual environment: install it with"
            f" `apt-get install python{_PYTHON}-venv` ({_last_line(made.stdout + made.stderr)})"
        )
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--no-compile", "--no-input", "--quiet"]
    pip += ["--disable-pip-version-check", "--requirement", str(REQUIREMENTS)]
    got = subprocess.run(pip, capture_output=True, text=True, check=False)
    if got.returncode:
        raise PartUnavailable(
            "triton",
            f"Triton's packages cannot be installed ({_last_line(got.stderr)}): check the network and the package"
            " index, then try again.",
            cause="install_failed",
        )


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def find_libpython() -> Path | None:
    """The folder of this Python's shared library, or None where the loader finds it by itself.

    Raises ``ConfigurationError`` when there is none.
    """
    name = f"libpython{_PYTHON}.so.1.0"
    for folder in (sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"):
        if folder and (Path(folder) / name).exists():
            return Path(folder)
    # In a child: loading a second libpython into this interpreter could harm it.
    probe = f"import ctypes; ctypes.CDLL({name!r})"
    if subprocess.run([sys.executable, "-S", "-c", probe], capture_output=True, check=False).returncode:
        raise ConfigurationError(
            f"Triton needs {name}, which this Python came without: `apt-get install libpython{_PYTHON}`"
        )
    return None
