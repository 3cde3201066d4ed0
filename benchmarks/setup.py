"""How long set-up takes on a fresh machine: a clean clone, an empty home, an empty cache, and no Go."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.table import Row
from settings import PROJECT_ROOT, environment_variable

COMMAND = "python -m benchmarks setup"
#: What a fresh machine may need to reach its package index.
KEPT = ("LANG", "SSL_CERT_FILE", "PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "REQUESTS_CA_BUNDLE", "GOPROXY")


def run(work: Path) -> list[Row]:
    """Two set-ups: with an empty cache, and with nothing in it but the store's binary."""
    python = str(Path(sys.executable).resolve().parent)
    kept = {name: environment_variable(name) for name in KEPT if environment_variable(name)}
    cache = work / "cache"
    seconds = []
    for name in ("with", "without"):
        home, clone = work / f"home-{name}", work / f"clone-{name}"
        home.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", PROJECT_ROOT, clone], check=True)
        environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(cache)}
        environment["PATH"] = f"{python}:/usr/sbin:/usr/bin:/sbin:/bin"
        began = time.monotonic()
        subprocess.run(["make", "setup"], cwd=clone, env=environment, stdin=subprocess.DEVNULL, check=True)
        seconds.append(time.monotonic() - began)
        for folder in (cache / "weavloader").iterdir():  # keep the store's binary alone
            if folder.name != "weaviate":
                subprocess.run(["rm", "-rf", folder], check=True)
    return [
        Row("set-up of a fresh machine, s", seconds[0], None, COMMAND),
        Row("the same without Weaviate, s", seconds[1], None, COMMAND),
    ]
