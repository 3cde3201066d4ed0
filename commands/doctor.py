"""``doctor``: what can go wrong before and while the product runs, each with its remedy. It changes nothing.

The parts are asked through ``probes``, as ``status`` and ``/ready`` do; what one says against itself names the remedy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from commands import standing_checked
from commands.findings import Finding, State
from commands.probes import Probes
from errors import ConfigurationError, WeavloaderError
from job_system.health import FULL_DISK
from ledger import ServerFigures
from records import PartState
from sections import STORE_READ_ONLY
from settings import PROJECT_ROOT, Loaded, Settings, process_environment, running_stack
from stack import ROLES, prometheus
from stack.parts import embedded, port_uses
from stack.ports import problems
from stack.processes import belonging, holder_pid
from stack.triton import find_libpython

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 12)
#: Share of its disk beyond which the data folder has no room for a day.
NO_DISK = 0.97
#: Shares of Redis's memory that are worth a word, and beyond which new work will soon be refused.
MUCH_MEMORY, NO_MEMORY = 0.75, 0.95
#: Seconds between the clocks that are worth a word, and that make the times of two hosts useless.
SMALL_CLOCK, LARGE_CLOCK = 2.0, 60.0
IMPORT_SECONDS = 60.0


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Every check, as it is made."""
    settings, data = loaded.settings, loaded.settings.paths.data
    running = running_stack(data) is not None
    own = _as_given(loaded)
    jobs = settings.jobs
    yield Finding(
        "ok",
        "settings",
        f"readable; data in {data}; messages are delivered again after {jobs.visibility_timeout:g} s, a job may take"
        f" {jobs.timeout:g} s",
    )
    yield python()
    if not own.triton.host:
        yield libpython()
    yield imports(("job_system", "tasks"))
    yield Finding(
        "ok", "stack", f"runs on {data}" if running else f"none runs on {data}: `python main.py up` starts one"
    )
    yield from held_ports(own, data) if running else free_ports(own)
    yield watcher(own, running=running)
    yield disk("disk", data, NO_DISK, "the logs, the archive and the parts' data have no room")
    if not own.weaviate.host:
        yield disk(
            "store's disk",
            data / "weaviate",
            STORE_READ_ONLY,
            "Weaviate takes no writes and images wait",
            usable=False,
        )
    yield web_access(settings)
    with Probes(settings) as probes:
        reachable = yield from broker(settings, probes)
        yield from parts(settings, probes, reachable=reachable, running=running)
        if reachable:
            yield from reindex(probes)
            yield from standing_checked.watches(probes)


def python() -> Finding:
    """The interpreter's version."""
    version = sys.version_info[:2]
    shown = f"{sys.version.split()[0]} in {sys.prefix}"
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return Finding("ok", "python", shown)
    wanted = " or ".join(f"{major}.{minor}" for major, minor in (OLDEST_PYTHON, NEWEST_PYTHON))
    return Finding("wrong", "python", f"{shown} is not {wanted}: install one of them and run `make setup`")


def libpython() -> Finding:
    """Python's shared library, which the embedded Triton's backend needs."""
    try:
        folder = find_libpython()
    except WeavloaderError as error:
        return Finding("wrong", "libpython", str(error))
    return Finding("ok", "libpython", f"in {folder}" if folder else "found by the loader")


def web_access(settings: Settings) -> Finding:
    """Who may read the search page, and whether it would start."""
    from web.access import Access

    try:
        access = Access(settings.web)
    except ConfigurationError as error:
        return Finding("wrong", "web access", str(error))
    reading = "open on loopback" if access.open else "needs a token"
    changing = "with the admin's token" if access.can_change else "off (WEAVLOADER_WEB_ADMIN_TOKEN is not set)"
    return Finding("ok", "web access", f"reading {reading}; changing dead letters {changing}")


# The modules are imported in a process of their own: what is open in it afterwards was opened by importing.
_IMPORTING = """
import json, os, sys, threading
connections = []
sys.addaudithook(lambda event, words: connections.append(str(words[1])) if event == "socket.connect" else None)
def sockets():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return {link for link in found if link.startswith("socket:")}
before = sockets()
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
left = len(sockets() - before)
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"connections": connections, "sockets": left, "threads": threads}))
"""


def imports(modules: Sequence[str], root: Path = PROJECT_ROOT) -> Finding:
    """Whether importing opens what a forked worker must not inherit: connections, sockets, threads."""
    name, shown = "fork safety", " and ".join(modules)
    command = [sys.executable, "-c", _IMPORTING, str(root), *modules]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=process_environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "wrong", name, f"importing {shown} takes more than {IMPORT_SECONDS:g} s: look at what it waits for"
        )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("wrong", name, f"{shown} cannot be imported ({why}): run `make setup`")
    found = json.loads(done.stdout.splitlines()[-1])
    opened = [f"connects to {address}" for address in found["connections"]]
    opened += [f"leaves {found['sockets']} sockets open"] if found["sockets"] else []
    opened += [f"starts the thread {thread}" for thread in found["threads"]]
    if opened:
        return Finding(
            "wrong", name, f"importing {shown} {', '.join(opened)}: open it at first use, a forked worker hangs on it"
        )
    return Finding("ok", name, f"importing {shown} opens no connection and starts no thread")


def free_ports(own: Settings) -> Iterator[Finding]:
    """Where no stack runs: whether one could listen where it would."""
    here = embedded(own)
    uses = list(port_uses(own, here, ROLES))
    found = list(problems(uses))
    for use, why in found:
        # With a broker of its own, an installation may run its roles one by one, and these listen already.
        state: State = "wrong" if here else "warning"
        yield Finding(state, f"port {use.port}", why)
    if not found:
        yield Finding("ok", "ports", f"{len(uses)} are free for `python main.py up`")


def held_ports(own: Settings, data: Path) -> Iterator[Finding]:
    """Where a stack runs: whether its processes are those that listen."""
    uses = list(port_uses(own, embedded(own), ROLES))
    ours = belonging(data.absolute())
    strange = [use for use in uses if holder_pid(use.port) not in ours]
    taken = dict(problems(uses))
    for use in strange:
        log = data / "logs"
        why = taken.get(use) or f"nothing listens on port {use.port} for {use.part}: look into its log in {log}"
        yield Finding("wrong", f"port {use.port}", why)
    if not strange:
        yield Finding("ok", "ports", f"{len(uses)} are held by the running stack")


def watcher(own: Settings, *, running: bool) -> Finding:
    """Whether `up` has or would have a Prometheus; it goes without one that cannot run."""
    name = prometheus.NAME
    binary = prometheus.find(own)
    if binary is None:
        why = "no binary on PATH or in the cache" if own.metrics.prometheus else "WEAVLOADER_PROMETHEUS is off"
        return Finding("ok", name, f"{why}: `python main.py up` goes without it")
    if running:
        return Finding("ok", name, f"{binary}; {prometheus.address(own)} where the running stack has it")
    for _, why in problems([prometheus.port_use(own)]):
        return Finding("warning", name, f"{why}; until then `python main.py up` goes without it")
    return Finding("ok", name, f"{binary} would listen on port {own.metrics.prometheus_port}")


def disk(
    name: str, folder: Path, wrong: float, consequence: str, warning: float = FULL_DISK, *, usable: bool = True
) -> Finding:
    """How full the disk is on which the folder is, or will be; ``warning`` and ``wrong`` are shares of it.

    The whole is what this user may fill, or, unless ``usable``, all of the disk with what is kept back for root, as
    Weaviate counts it.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    used = usage.used / ((usage.used + usage.free if usable else usage.total) or 1)
    shown = f"{used:.0%} of the disk of {folder} used, {usage.free / 1e9:.1f} GB free"
    state = _beyond(used, warning, wrong)
    remedy = "" if state == "ok" else f"; from {wrong:.0%} on {consequence}: make room, or move the data folder"
    return Finding(state, name, shown + remedy)


def broker(settings: Settings, probes: Probes) -> Generator[Finding, None, bool]:
    """The Redis server's kind, its memory and its clock; whether it can be used."""
    if not settings.jobs.broker_url:
        yield Finding("ok", "redis", "CELERY_BROKER_URL is not set: `python main.py up` starts a Valkey")
        return False
    try:
        warnings, figures = probes.broker()
    except WeavloaderError as error:
        yield Finding("wrong", "redis", str(error))
        return False
    for warning in warnings:
        yield Finding("warning", "redis", warning)
    if not warnings:
        yield Finding("ok", "redis", "reachable, no cluster, evicts nothing, keeps what it is given on disk")
    yield memory(figures)
    yield clocks(figures)
    yield neighbours(probes)
    return True


def neighbours(probes: Probes) -> Finding:
    """Whether another Celery app or another installation uses the broker's keys."""
    name = "redis neighbours"
    try:
        allowed = probes.neighbours()
    except WeavloaderError as error:
        return Finding("wrong", name, str(error))
    if allowed:
        return Finding("warning", name, "; ".join(allowed))
    return Finding("ok", name, "no other Celery app and no other installation uses the broker's database")


def reindex(probes: Probes) -> Iterator[Finding]:
    """Where one is under way: whether somebody is at it."""
    name = "reindex"
    try:
        one, at_it = probes.reindex()
    except WeavloaderError as error:
        yield Finding("wrong", name, str(error))
        return
    if one is None:
        return
    told = f"into {one.collection} is under way, {one.gone_by} of {one.total} objects"
    if at_it:
        yield Finding("ok", name, told)
        return
    yield Finding(
        "warning",
        name,
        f"{told}, and nobody is at it, while all that lands is kept in mind for it: `python main.py reindex` goes on,"
        " `reindex --cancel` ends it",
    )


def memory(figures: ServerFigures) -> Finding:
    """How full Redis is."""
    used = f"{figures.memory / 1e6:.0f} MB used"
    if not figures.most_memory:
        return Finding("ok", "redis memory", f"{used}, no maxmemory")
    share = figures.memory / figures.most_memory
    state = _beyond(share, MUCH_MEMORY, NO_MEMORY)
    remedy = "" if state == "ok" else ": raise maxmemory, or let the queue drain before more is queued"
    return Finding(state, "redis memory", f"{used} of maxmemory {figures.most_memory / 1e6:.0f} MB{remedy}")


def clocks(figures: ServerFigures) -> Finding:
    """How far Redis's clock and this host's are apart."""
    apart = abs(figures.clock_ahead)
    state = _beyond(apart, SMALL_CLOCK, LARGE_CLOCK)
    remedy = "" if state == "ok" else ": set both by NTP, else what one wrote is too young or too old for the other"
    return Finding(state, "clocks", f"Redis and this host are {apart:.2g} s apart{remedy}")


def _beyond(value: float, warning: float, wrong: float) -> State:
    return "wrong" if value >= wrong else "warning" if value >= warning else "ok"


def parts(settings: Settings, probes: Probes, *, reachable: bool, running: bool) -> Iterator[Finding]:
    """Triton, Weaviate and SAGE by a real question, then the roles."""
    canaries = probes.parts()
    ask: dict[str, Callable[[], PartState]] = {}
    if settings.triton.host:
        ask |= {f"triton {role}": probe for role, probe in probes.contracts().items()}
        ask["triton canary"] = canaries["triton"]
    else:
        yield Finding("ok", "triton", "TRITON_HOST is not set: `python main.py up` starts one")
    if settings.weaviate.host:
        ask |= {"weaviate": canaries["weaviate"], "weaviate schema": probes.schema}
    else:
        yield Finding("ok", "weaviate", "WEAVIATE_HOST is not set: `python main.py up` starts one")
    if "sage" in canaries:
        ask["sage"] = canaries["sage"]
    else:
        why = "WEAVLOADER_SAGE_POLL is off" if settings.sage.user else "SAGE_USER is not set"
        yield Finding("ok", "sage", f"{why}: SAGE is not polled")
    for name, probe in ask.items():
        yield _asked(name, probe)
    if not reachable:
        return
    roles = {name: canaries[name] for name in ("processor", "moderator", "cleaner", "scheduler", "stream")}
    for name, probe in {**roles, **(probes.endpoints() if running else {})}.items():
        found = _asked(name, probe)
        if found.state == "ok":
            yield found
        elif running:
            yield Finding("wrong", name, f"{found.detail}: look into {settings.paths.data / 'logs' / name}.log")
        else:
            yield Finding("warning", name, f"{found.detail}: start `python main.py {name}`, or `python main.py up`")


def _asked(name: str, probe: Callable[[], PartState]) -> Finding:
    try:
        state = probe()
    except WeavloaderError as error:
        return Finding("wrong", name, str(error))
    return Finding("ok" if state.ok else "wrong", name, state.detail)


def _as_given(loaded: Loaded) -> Settings:
    """The settings without the addresses that the running stack filled in: what it runs itself is embedded again."""
    settings = loaded.settings
    blank = {"host": ""}
    sections = (
        ("CELERY_BROKER_URL", "jobs", {"broker_url": ""}),
        ("TRITON_HOST", "triton", blank),
        ("WEAVIATE_HOST", "weaviate", blank),
    )
    update = {
        section: getattr(settings, section).model_copy(update=values)
        for env, section, values in sections
        if loaded.origins[env] == "running stack"
    }
    return settings.model_copy(update=update)
