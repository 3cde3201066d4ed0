"""``python -m deploy.make_secrets FOLDER``: the installation's secrets, one file each, made once.

What the environment gives (``WEAVIATE_API_KEY``, ``FLOWER_BASIC_AUTH``, …) takes the place of what was made before; all
else stays as it is, so that running it again changes nothing.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from settings import Settings, load

#: Owner and group read, nobody else: the roles are the owner, Grafana and Weaviate are in its group (0).
MODE = 0o440


def wanted(settings: Settings) -> dict[str, str]:
    """The secrets by file; '' for those that nobody chose."""
    return {
        "weaviate_api_key": settings.weaviate.api_key,
        "weaviate_cluster_password": "",
        "flower_basic_auth": settings.flower.basic_auth,
        "web_read_token": settings.web.read_token,
        "web_admin_token": settings.web.admin_token,
        "grafana_admin_password": "",
    }


def made(name: str) -> str:
    """A new secret; Flower's is a login."""
    return ("admin:" if name == "flower_basic_auth" else "") + secrets.token_urlsafe(24)


def write(file: Path, value: str) -> None:
    """The whole file or none of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w") as opened:
        opened.write(value + "\n")
        os.fchmod(opened.fileno(), MODE)  # whatever the umask
    draft.replace(file)


def main(folder: Path) -> None:
    """Make what is missing, and say what was done, without any value."""
    for name, given in wanted(load().settings).items():
        file = folder / name
        before = file.read_text("utf-8").strip() if file.exists() else ""
        if given and given != before:
            write(file, given)
            print(f"{name}: as given")
        elif not before:
            write(file, made(name))
            print(f"{name}: made")
        else:
            print(f"{name}: kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
