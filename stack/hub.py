"""A model hub, by the protocol that Hugging Face's has and mirrors of it speak:
``GET ENDPOINT/REPOSITORY/resolve/REVISION/FILE``, redirected to where large files lie.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from errors import ConfigurationError, PartUnavailable, WeavloaderError
from settings import Hub as HubSettings
from settings import version
from stack.light import HubModel, WeightFile
from stack.quickly import CONNECT_SECONDS, quickly

#: Called with what is being done, and how many bytes of it of how many are done.
Progress = Callable[[str, int, int], None]

STALL_SECONDS = 30.0
MOST_HOPS = 5
#: Failures in a row, without a byte between them, after which it is given up.
TRIES = 4
LONGEST_WAIT = 60.0
BLOCK = 1 << 20
OK, PARTIAL, NOT_SATISFIABLE, TOO_MANY, SERVER_ERROR = 200, 206, 416, 429, 500
REDIRECTS = (301, 302, 303, 307, 308)
REFUSED = (401, 403)
GONE = (404, 410)


class _Again(Exception):
    """This request failed for a reason that may pass. ``seconds``: how long the hub asks to wait, if it does."""

    def __init__(self, why: str, seconds: float | None = None) -> None:
        super().__init__(why)
        self.seconds = seconds


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Every answer is an answer, redirects and errors too."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        """The answer."""
        return response

    https_response = http_response


class Hub:
    """One endpoint. The token is sent to it alone, and stands in no message."""

    def __init__(self, section: HubSettings) -> None:
        self.endpoint = section.endpoint.rstrip("/")
        self._token = section.token
        self._opener = urllib.request.build_opener(_AsItIs)

    def reach(self, model: HubModel) -> None:
        """Return when a hub answers, be it that it refuses. Raises ``PartUnavailable``."""
        url = self._url(model, model.files[-1])

        def asked() -> int:
            with closing(self._open(url, {}, "HEAD", CONNECT_SECONDS)) as answer:
                return int(answer.status)

        try:
            status = quickly(asked)
            why = f"status {status}" if status >= SERVER_ERROR else ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = _why(error)
        if why:
            raise PartUnavailable("hub", f"no model hub answers at {self.endpoint} ({why})", cause="hub_away")

    def fetch(self, model: HubModel, file: WeightFile, target: Path, progress: Progress) -> None:
        """Get a file into ``target``, going on from what an earlier attempt left beside it. It is there once its sum is
        right, and not before.

        Raises ``PartUnavailable`` where the hub fails or its file has another size or sum, ``ConfigurationError`` where
        it refuses or has no such file, and ``WeavloaderError`` or ``OSError`` where the disk fails.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        failures = 0
        while (have := _size(part)) != file.bytes:
            if have > file.bytes:
                part.unlink()
                continue
            try:
                self._go_on(model, file, part, have, progress)
            except _Again as error:
                failures = 1 if _size(part) > have else failures + 1
                if failures >= TRIES:
                    raise PartUnavailable("hub", f"{self._named(model, file)} cannot be fetched: {error}") from None
                if failures > 1 or error.seconds is not None:
                    time.sleep(min(2.0**failures if error.seconds is None else error.seconds, LONGEST_WAIT))
        if (found := digest(part, progress)) != file.sha256:
            part.unlink()
            raise PartUnavailable(
                "hub",
                f"{self._named(model, file)} has the SHA-256 {found}, not the pinned {file.sha256}: it was thrown away;"
                " fetch again, or from another HF_ENDPOINT",
                cause="checksum",
            )
        part.replace(target)

    def _go_on(self, model: HubModel, file: WeightFile, part: Path, have: int, progress: Progress) -> None:
        try:
            answer = self._answer(model, file, have)
        except (OSError, http.client.HTTPException) as error:
            raise _Again(_why(error)) from None
        with closing(answer):
            if answer.status == NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
                raise _Again("it does not go on from where it was")
            resumed = answer.status == PARTIAL
            self._check_size(model, file, answer, have if resumed else 0)
            done = have if resumed else 0
            with _written(part, append=resumed) as opened:
                while block := _block(answer):
                    done += len(block)
                    if done > file.bytes:
                        raise _Again("it has more bytes than were told")
                    _write(opened, block)
                    progress(f"MB of {file.name}", done, file.bytes)
            if done < file.bytes:
                raise _Again("the connection ended early")

    def _answer(self, model: HubModel, file: WeightFile, have: int) -> Any:
        """The answer with the content from ``have`` on, behind all redirects."""
        here = self._url(model, file)
        for _ in range(MOST_HOPS):
            answer = self._open(here, {"Range": f"bytes={have}-"} if have else {}, "GET", STALL_SECONDS)
            self._check_told(model, file, answer.headers)
            if answer.status in (OK, PARTIAL, NOT_SATISFIABLE):
                return answer
            answer.close()
            if answer.status not in REDIRECTS:
                raise self._refusal(model, file, answer)
            here = urljoin(here, answer.headers.get("Location", ""))
            if urlsplit(here).scheme not in ("http", "https"):
                raise PartUnavailable("hub", f"{self._named(model, file)} is redirected to no http:// or https:// URL")
        raise PartUnavailable("hub", f"{self._named(model, file)} is redirected more than {MOST_HOPS} times")

    def _open(self, url: str, headers: dict[str, str], method: str, seconds: float) -> Any:
        named = {**headers, "User-Agent": f"weavloader/{version()}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers=named, method=method)
        if self._token and urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return self._opener.open(request, timeout=seconds)

    def _check_told(self, model: HubModel, file: WeightFile, headers: Any) -> None:
        """What the hub says of the file before it gives it: else a gigabyte is fetched for nothing."""
        commit = headers.get("X-Repo-Commit", "") or model.revision
        told = headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
        if commit != model.revision:
            raise PartUnavailable(
                "hub", f"{self._named(model, file)} is given at the revision {commit}: this is not what was asked for"
            )
        if len(told) == len(file.sha256) and told != file.sha256:  # small files have a sum of another kind
            raise PartUnavailable(
                "hub",
                f"{self._named(model, file)} has the SHA-256 {told} there, not the pinned {file.sha256}: nothing was"
                " fetched of it",
                cause="checksum",
            )

    def _check_size(self, model: HubModel, file: WeightFile, answer: Any, begin: int) -> None:
        length = answer.headers.get("Content-Length")
        if length is not None and int(length) != file.bytes - begin:
            raise PartUnavailable(
                "hub",
                f"{self._named(model, file)} has {begin + int(length)} bytes there, not the pinned {file.bytes}: is"
                " HF_ENDPOINT a model hub?",
            )

    def _refusal(self, model: HubModel, file: WeightFile, answer: Any) -> Exception:
        named, status = self._named(model, file), answer.status
        if status in REFUSED:
            remedy = "the login of HF_TOKEN may not have it" if self._token else "set HF_TOKEN to a token that may"
            return ConfigurationError(f"{named} is refused ({status}): {remedy}")
        if status in GONE:
            return ConfigurationError(
                f"{named} is not there ({status}): correct HF_ENDPOINT, or fetch from another hub"
            )
        if status == TOO_MANY or status >= SERVER_ERROR:
            return _Again(f"the hub answers {status}", _seconds(answer.headers.get("Retry-After", "")))
        return PartUnavailable("hub", f"{named}: the hub answers {status}")

    def _url(self, model: HubModel, file: WeightFile) -> str:
        return f"{self.endpoint}/{model.repository}/resolve/{model.revision}/{quote(file.path)}"

    def _named(self, model: HubModel, file: WeightFile) -> str:
        return f"{file.path} of {model.repository} at {self.endpoint}"


def digest(path: Path, progress: Progress) -> str:
    """The SHA-256 sum of a file."""
    total, done, sums = _size(path), 0, hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(BLOCK):
            sums.update(block)
            done += len(block)
            progress(f"MB of {path.name.removesuffix('.part')} checked", done, total)
    return sums.hexdigest()


def _written(part: Path, *, append: bool) -> Any:
    try:
        return part.open("ab" if append else "wb")
    except OSError as error:
        raise WeavloaderError(
            f"{part} cannot be written ({error.strerror}): make room, or correct its rights"
        ) from None


def _write(opened: Any, block: bytes) -> None:
    try:
        opened.write(block)
        opened.flush()
    except OSError as error:
        raise WeavloaderError(f"{opened.name} cannot be written ({error.strerror}): make room") from None


def _block(answer: Any) -> bytes:
    try:
        block: bytes = answer.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Again(_why(error)) from None
    return block


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _seconds(said: str) -> float | None:
    """``Retry-After`` in seconds; its other form, a date, is not waited for."""
    try:
        return max(0.0, float(said))
    except ValueError:
        return None


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
