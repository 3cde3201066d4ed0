"""Installing several things at once, each told in plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from errors import WeavloaderError
from settings import Settings
from stack.parts import Part, Report, embedded
from stack.processes import descendants, end

#: A step shorter than this was done before: not worth a line.
QUICK_SECONDS = 2.0


def together(steps: Mapping[str, Callable[[], Any]], report: Report) -> dict[str, Any]:
    """Run the steps at once. What each returned, by name.

    A failing step is told when it fails; the others are finished first, so that their work is not done twice, and then
    its error is raised. An interruption ends the programs that the steps started.
    """
    before = descendants()
    pool = ThreadPoolExecutor(max(1, len(steps)), thread_name_prefix="install")
    names: dict[Future[Any], str] = {}
    try:
        began = time.monotonic()
        names = {pool.submit(step): name for name, step in steps.items()}
        pending = set(names)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            seconds = time.monotonic() - began
            for future in done:
                if isinstance(error := future.exception(), WeavloaderError) and pending:
                    report(f"{names[future]} failed: {error}; finishing {', '.join(names[left] for left in pending)}")
                elif error is None and seconds >= QUICK_SECONDS:
                    report(f"{names[future]}: installed after {seconds:.0f} s")
    except BaseException:
        # Again and again: a step may have been just about to start its program.
        while running := [future for future in names if not (future.cancel() or future.done())]:
            end(descendants() - before, 2)
            wait(running, timeout=0.1)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return {name: future.result() for future, name in names.items()}


def install_parts(settings: Settings, parts: tuple[Part, ...], report: Report) -> dict[str, Any]:
    """What ``launch`` needs of every part's installation, by the part's name."""
    titles = {part.title: part.name for part in parts}
    found = together({part.title: _step(part, settings, report) for part in parts}, report)
    return {titles[title]: installed for title, installed in found.items()}


def install_all(
    settings: Settings, report: Report, extra: Mapping[str, Callable[[Path, Report], Any]] | None = None
) -> None:
    """Install every part that this machine would run itself, and ``extra`` (cache folder, report) beside them.

    Raises ``ConfigurationError`` or ``PartUnavailable`` with one line that names what failed and the remedy.
    """
    began = time.monotonic()
    steps: dict[str, Callable[[], Any]] = {part.title: _step(part, settings, report) for part in embedded(settings)}
    for name, install in (extra or {}).items():
        steps[name] = _extra(install, settings.paths.cache, report)
    together(steps, report)
    report(f"installed: {', '.join(steps)} ({time.monotonic() - began:.0f} s)")


def _step(part: Part, settings: Settings, report: Report) -> Callable[[], Any]:
    return lambda: part.install(settings, report)


def _extra(install: Callable[[Path, Report], Any], cache: Path, report: Report) -> Callable[[], Any]:
    return lambda: install(cache, report)
