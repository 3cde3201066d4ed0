"""Standing searches are added and removed here, for the command line, the page and its API alike."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from errors import ConfigurationError, NotFound, PermanentError, UsageError, WeavloaderError
from ledger import Ledger, Watch
from ledger.watches import MOST_WATCHES, WatchState
from records import Made, Vector
from sections import Webhooks

#: The file in the folder of the secrets that were made here which tells that from others.
FOLDER_ID = "folder"
NAME = "[a-z0-9][a-z0-9_-]{0,39}"
#: Seconds between two posts of a camera, unless said otherwise, and at most.
COOLDOWN = 600.0
LONGEST_COOLDOWN = 366 * 86_400.0


class Taken(UsageError):
    """There is a watch of that name, or as many as there may be."""

    default_cause = "taken"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be looked for; of alerts where ``query`` is ''. ``threshold`` is a cosine similarity."""

    name: str
    url: str
    query: str = ""
    threshold: float | None = None
    cooldown: float = COOLDOWN
    narrowed: Mapping[str, str] = field(default_factory=dict)


def new_watch(wanted: Wanted, made: Made[Vector] | None, secrets: Path, secret_file: Path | None = None) -> Watch:
    """The watch, not yet added; ``made`` is its query's vector, ``secret_file`` one that was there before."""
    own = str(uuid.uuid4())
    file = secret_file or secrets / f"{wanted.name}-{own[:8]}.secret"
    return Watch(
        wanted.name,
        own,
        wanted.url,
        str(file.absolute()),
        time.time(),
        wanted.query,
        wanted.threshold or 1.0,
        wanted.cooldown,
        narrowed=dict(wanted.narrowed),
        made=made,
    )


async def check_webhook(section: Webhooks, url: str) -> None:
    """Return where the URL may be posted to. Raises ``UsageError`` that names its host at most: it may be a key."""
    from sources.webhooks import WebhookPoster

    poster = WebhookPoster(section)
    try:
        await poster.check(url)
    except (ValueError, PermanentError) as error:
        raise UsageError(f"the webhook cannot be used: {error}") from None
    finally:
        await poster.close()


def check_new(ledger: Ledger, name: str, secrets: Path | None) -> None:
    """Raises as adding would where there is a watch of that name, or as many as there may be, or where a secret that is
    kept in ``secrets`` would lie where no cleaner reads it; None for one that was there before. Nothing is changed.
    """
    names = {state.watch.name for state in ledger.watches.states()}
    if name in names:
        raise _taken(name)
    if len(names) >= MOST_WATCHES:
        raise _full()
    if secrets is not None:
        _check_folder(ledger, secrets)


def begin(ledger: Ledger, one: Watch, secrets: Path) -> str:
    """Add a watch with a secret of its own, which is kept for the owner's eyes only; the secret.

    Raises ``Taken``, and ``ConfigurationError`` where the secret cannot be kept or would lie where no cleaner reads it
    (``webhook_secret``).
    """
    from sources.webhooks import new_secret

    _check_folder(ledger, secrets)
    secret, file = new_secret(), Path(one.secret_file)
    try:
        _keep(file, secret + "\n")
    except OSError as error:
        raise ConfigurationError(f"the secret cannot be kept in {file}: {_why(error)}") from None
    try:
        add(ledger, one)
    except WeavloaderError:
        if _is_there(ledger, one):
            return secret
        file.unlink()
        raise
    return secret


def _is_there(ledger: Ledger, one: Watch) -> bool:
    """Whether this very watch was added after all, and only the answer was lost; the same request, sent again, finds
    its name taken. Raises as the ledger does: then nobody can tell, and its secret has to stay.
    """
    kept = ledger.watches.get(one.name)
    return kept is not None and kept.id == one.id


def add(ledger: Ledger, one: Watch) -> None:
    """Add a watch whose secret lies where it says. Raises ``Taken``."""
    answer = ledger.watches.add(one)
    if answer == "full":
        raise _full()
    if answer == "taken":
        raise _taken(one.name)


def remove(ledger: Ledger, secrets: Path, name: str) -> WatchState:
    """Remove a watch, with its deliveries and the secret that was made for it; how it was. Raises ``NotFound``."""
    state = ledger.watches.state(name)
    if state is None or not ledger.watches.remove(state.watch):
        raise unknown(name)
    file = Path(state.watch.secret_file)
    if file.parent == secrets:
        with suppress(OSError):
            file.unlink()
    return state


def found(ledger: Ledger, name: str) -> WatchState:
    """A watch and how it is. Raises ``NotFound``."""
    state = ledger.watches.state(name)
    if state is None:
        raise unknown(name)
    return state


def set_active(ledger: Ledger, name: str, *, active: bool) -> None:
    """Resume or pause a watch. Raises ``NotFound``."""
    one = ledger.watches.get(name)
    if one is None or not (ledger.watches.resume(one) if active else ledger.watches.pause(one)):
        raise unknown(name)


def unknown(name: str) -> NotFound:
    """The error for a name that no watch has."""
    return NotFound(f"there is no watch {name}: `python main.py watch list` lists them")


def folder_id(secrets: Path) -> str:
    """What tells this folder of secrets from those of other hosts; made by the first that asks.

    Raises ``ConfigurationError`` where it cannot be kept.
    """
    if not _told_id(secrets):
        try:
            with suppress(FileExistsError):
                _keep(secrets / FOLDER_ID, str(uuid.uuid4()))
        except OSError as error:
            raise _unusable(secrets, error) from None
    return _told_id(secrets)


def _told_id(secrets: Path) -> str:
    """The same, '' where nobody has made it. Raises ``ConfigurationError``."""
    try:
        return (secrets / FOLDER_ID).read_text("ascii").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unusable(secrets, error) from None


def _check_folder(ledger: Ledger, secrets: Path) -> None:
    living = ledger.watches.folders()
    if living and set(living) != {_told_id(secrets)}:  # a cleaner of this folder has made it
        raise ConfigurationError(
            f"a secret that is kept in {secrets} cannot be read by the cleaner, which posts: run"
            " `python main.py watch add` where the cleaner runs (there --secret-file names a file too), or let both"
            " share the data folder",
            cause="webhook_secret",
        )


def _keep(file: Path, text: str) -> None:
    """A new file for the owner's eyes only, whole or not at all. Raises ``OSError``, also where there is one."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=file.parent)  # for the owner alone from the start
    try:
        with open(descriptor, "w", encoding="utf-8") as output:  # noqa: PTH123 - a descriptor, not a path
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        os.link(scratch, file)
    finally:
        Path(scratch).unlink()


def _why(error: OSError) -> str:
    return (error.strerror or "error").lower()


def _unusable(secrets: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"the folder of secrets {secrets} cannot be used: {_why(error)}")


def _full() -> Taken:
    return Taken(f"there are {MOST_WATCHES} watches, which is all there may be: remove one")


def _taken(name: str) -> Taken:
    return Taken(f"there is a watch {name} already: choose another name, or remove that one first")
