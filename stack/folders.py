"""Folders whose paths other programs can bear: short enough for a socket, plain enough for a shell."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from errors import ConfigurationError
from settings import Settings

#: A socket's path may have 107 bytes; supervisord first binds it with its pid appended.
LONGEST_SOCKET_PATH = 107 - len(".1234567")


def private_folder(data: Path) -> Path:
    """A folder for this user only under the system's temporary one, the same for the same data folder.

    Raises ``ConfigurationError`` when somebody else has taken its name.
    """
    name = f"weavloader-{os.getuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigurationError(f"{folder} belongs to somebody else: remove it or set another WEAVLOADER_DATA_DIR")
    return folder


def run_folder(data: Path) -> Path:
    """Where supervisord's socket is: ``run`` in the data folder, or the private folder where that path is too long."""
    usual = data / "run"
    return usual if len(os.fsencode(usual / "control")) <= LONGEST_SOCKET_PATH else private_folder(data)


def plain_for_shell(settings: Settings, data: Path) -> tuple[Settings, Path]:
    """The settings and Triton's data folder with paths that a shell does not split.

    Triton starts its Python models through a shell without quoting their paths; where those hold a space, links in the
    private folder stand for them.
    """
    repository = settings.triton.repository
    if not _unsafe(repository) and not _unsafe(data):
        return settings, data / "triton"
    folder = private_folder(data)
    if _unsafe(repository):
        link = folder / "models"
        link.unlink(missing_ok=True)
        link.symlink_to(repository)
        repository = link
    section = settings.triton.model_copy(update={"repository": repository})
    return settings.model_copy(update={"triton": section}), folder / "triton"


def _unsafe(path: Path) -> bool:
    return re.search(r"[^\w@%+=:,./-]", str(path), re.ASCII) is not None
