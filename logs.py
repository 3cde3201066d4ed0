"""Logs: one line per event, as console text or JSON, with the role's tag in every line and no credentials in any.

``log = logs.get("name")`` gives a logger that takes a static event and fields: ``log.info("landed", image=record.id)``.
Nothing happens to the process's logging until a role calls ``configure()``; then the loggers of libraries (Celery,
kombu, aiohttp, warnings, uncaught errors) go through the same formatter to standard error.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

import settings

#: Libraries that tell every request at INFO: theirs is DEBUG to us.
TALKATIVE = ("httpx", "httpcore", "aiohttp.access", "urllib3", "asyncio", "PIL", "amqp")

#: Secrets shorter than this are not searched for by value: they would blank out ordinary words.
SHORTEST_SECRET = 4

_HIDDEN = "***"
_SECRET_FIELD = re.compile(
    r"(?i)(authorization|cookie|passw(or)?d|secret|credential|api[_-]?key|basic_auth|(^|[_-])(pass|token)$)"
)
_REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user and password of a URL
    (re.compile(r"(?<=://)[^\s/?#\"'<>]*@"), f"{_HIDDEN}@"),
    # a URL's whole query: a signed URL may call its token anything
    (re.compile(r"(://[^\s?\"'<>]*)\?[^\s\"'<>]+"), rf"\1?{_HIDDEN}"),
    # a token in the query of a path alone, as access logs write it
    (re.compile(r"(?i)([?&](?:x-amz-|auth|sig|[\w-]*(?:token|key|secret|pass))[\w-]*=)[^&\s\"'<>]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)((?:proxy-)?authorization\W{1,5})(?:\w+ )?[^\s\"',}\])]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"\b([Bb]asic|[Bb]earer) (?=\S*[A-Z0-9=])[\w+/=.~-]{6,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"(?i)\b(passw(?:or)?d|secret|api[_-]?key|x-amz-[\w-]+)(\W{1,4})[^\s\"',;&)]+"), rf"\1\2{_HIDDEN}"),
)
#: Values that cannot change.
_PLAIN = frozenset((str, int, float, bool, type(None)))
#: What every text that one of these finds something in has some of, in lower case: most texts are spared all of them.
_SUSPECT = ("://", "?", "&", "authorization", "basic", "bearer", "passw", "secret", "api", "x-amz-")


def get(name: str) -> BoundLogger:
    """The logger of that name. It costs nothing at levels that are switched off."""
    return BoundLogger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            ProcessorFormatter.wrap_for_formatter,
        ],
        context={},
    )


def configure(section: settings.Logging, tag: str, *, secrets: Iterable[str] = (), linger: float = 0.0) -> None:
    """Send every log line of this process to standard error under the tag (``MAIN`` or ``[MAIN]``, …).

    ``secrets`` are values that must never appear (of URLs: their password), whatever text they stand in. Called again
    it replaces what it did before. Lines below WARNING wait ``linger`` seconds to be written together; a warning and
    the end of the process write them at once.
    """
    tag = f"[{tag.strip('[]').upper()}]"
    render = _json if section.format == "json" else _console
    handler = _Handler(sys.stderr, linger)
    handler.setFormatter(
        ProcessorFormatter(
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                _time_of_record,
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _scrubber(secrets),
                lambda _logger, _method, event: render(tag, dict(event)),
            ]
        )
    )
    # No line shows these, and each costs every record (the "Optimization" section of Python's logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = section.level.upper()
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else logging.WARNING)
    logging.getLogger("asyncio").addFilter(_not_grpcs_own)
    logging.captureWarnings(True)
    atexit.unregister(_end_of_warnings)
    atexit.register(_end_of_warnings)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def scrubbed(text: str) -> str:
    """The text without URL passwords, signed queries, Authorization values and the like."""
    if _is_suspect(text):
        for pattern, replacement in _REPLACEMENTS:
            text = pattern.sub(replacement, text)
    return text


def _is_suspect(text: str) -> bool:
    folded = text.lower() if text.isascii() else text.casefold().replace("\u0131", "i").replace("i\u0307", "i")
    return any(part in folded for part in _SUSPECT)


def _end_of_warnings() -> None:
    """What is still open when the interpreter ends is warned of past all formatting, in lines without a tag."""
    warnings.simplefilter("ignore", ResourceWarning)
    # The interpreter keeps the filters that it saw last: one more warning shows it these.
    warnings.warn("the end", ResourceWarning, stacklevel=1)


class _Handler(logging.Handler):
    """Makes and writes lines to a stream; those below WARNING together with what else comes in ``linger`` seconds.

    Each write lets another thread run, and who wrote then waits for its turn: a line that is written alone costs a busy
    process several times what it takes to make. And who works at something else has none of what makes a line in the
    processor's caches: made one after another, lines cost less than half.
    """

    def __init__(self, stream: TextIO, linger: float) -> None:
        super().__init__()
        self._stream = stream
        self._linger = linger
        self._kept: deque[logging.LogRecord | str] = deque()
        self._told = threading.Event()
        self._writer: threading.Thread | None = None
        self._closed = False
        os.register_at_fork(after_in_child=self._in_child)

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep what is to be told. Without the handler's lock, which is for writing: nobody waits for a writer."""
        if not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """See ``handle``."""
        at_once = self._closed or not self._linger or record.levelno >= logging.WARNING
        self._kept.append(record if not at_once and _stays(record) else self._line(record))
        if at_once:
            self.flush()
        elif not self._told.is_set():
            self._told.set()
            if self._writer is None:
                self._begin()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - what cannot be shown must not end who tells it
            self.handleError(record)
            return ""

    def flush(self) -> None:
        """Write what is kept, in the order in which it came."""
        with self.lock or nullcontext():
            lines: list[str] = []
            try:
                with suppress(IndexError):  # a signal's handler may log, and write, in the middle of this
                    while self._kept:
                        kept = self._kept.popleft()
                        lines.append(kept if isinstance(kept, str) else self._line(kept))
            finally:  # whatever a signal's handler raises
                if lines and not self._stream.closed:
                    with suppress(OSError, RuntimeError):  # there is nowhere to tell that nobody takes the lines
                        self._stream.write("".join(lines))
                        self._stream.flush()

    def close(self) -> None:
        """Write what is kept."""
        self._closed = True
        self._told.set()
        self.flush()
        super().close()

    def _begin(self) -> None:
        with self.lock or nullcontext():
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="log lines", daemon=True)
                self._writer.start()

    def _write(self) -> None:
        while not self._closed:
            self._told.wait()
            time.sleep(self._linger)
            self._told.clear()
            self.flush()

    def _in_child(self) -> None:
        """A forked child leaves what was kept to its parent, and has no thread yet."""
        self._kept.clear()
        self._told = threading.Event()  # the other's lock may have been held
        self._writer = None


def _stays(record: logging.LogRecord) -> bool:
    """Whether what the record tells is the same whenever and wherever its line is made: an event with plain fields,
    without a traceback, which is this thread's.
    """
    fields = record.msg
    return (
        isinstance(fields, dict)
        and not fields.get("exc_info")
        and all(type(value) in _PLAIN for value in fields.values())
    )


def _time_of_record(_logger: Any, _method: str, event: Any) -> Any:
    """The time at which it was told, whenever the line is made, in ISO 8601 and UTC."""
    at = datetime.fromtimestamp(event["_record"].created, UTC)
    event["timestamp"] = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _not_grpcs_own(record: logging.LogRecord) -> bool:
    """gRPC wakes all event loops of a process for what one of them then reads, and the others tell that they found
    nothing (grpc/grpc#25364). It is no error.
    """
    error = record.exc_info[1] if record.exc_info else None
    told = record.getMessage()
    return not (isinstance(error, BlockingIOError) and "PollerCompletionQueue" in told and "_handle_events" in told)


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("weavloader").critical("uncaught error", exc_info=(kind, error or kind(), traceback))


def _passwords(secrets: Iterable[str]) -> set[str]:
    """What to search for: of a URL its password, as written and decoded; of user:password both forms."""
    found: set[str] = set()
    for secret in secrets:
        if "://" in secret:
            for part in secret.split(";"):
                url = urlsplit(part)
                queries = [value for name, value in parse_qsl(url.query) if name.endswith("password")]
                for password in (url.password or "", *queries):
                    found |= {password, unquote(password)}
        else:
            found |= {secret, secret.partition(":")[2]}
    return {value for value in found if len(value) >= SHORTEST_SECRET}


@functools.lru_cache(1024)  # the same few names stand in every line
def _is_secret(field: str) -> bool:
    return _SECRET_FIELD.search(field) is not None


def _scrubber(secrets: Iterable[str]) -> Callable[[Any, str, Any], dict[str, Any]]:
    """A processor that makes every value plain and takes the credentials out."""
    known = sorted(_passwords(secrets), key=len, reverse=True)
    by_value = re.compile("|".join(re.escape(value) for value in known)) if known else None

    def clean(value: object) -> Any:
        if isinstance(value, str):
            return scrubbed(by_value.sub(_HIDDEN, value) if by_value else value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (list, tuple, set, frozenset)):
            return [clean(item) for item in value]
        return cleaned(value) if isinstance(value, Mapping) else clean(str(value))

    def cleaned(fields: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(key): hide(key, value) for key, value in fields.items()}

    def hide(key: object, value: object) -> Any:
        # a number under such a name is a count or a fencing token, not a credential
        if isinstance(value, (bool, int, float)):
            return value
        return _HIDDEN if value and _is_secret(str(key)) else clean(value)

    def process(_logger: object, _method: str, event: Mapping[str, Any]) -> dict[str, Any]:
        if all(type(value) in _PLAIN for value in event.values()):
            # nearly every line is an event with plain fields: one look at all of them spares a look at each
            texts = {name: value for name, value in event.items() if type(value) is str}
            together = "\n".join(texts.values())
            if not (_is_suspect(together) or (by_value and by_value.search(together)) or any(map(_is_secret, texts))):
                return dict(event)
        return cleaned(event)

    return process


def _json(tag: str, event: dict[str, Any]) -> str:
    first = {"tag": tag, **{name: event.pop(name, "") for name in ("timestamp", "level", "logger", "event")}}
    return json.dumps(first | event | {"tag": tag})


def _console(tag: str, event: dict[str, Any]) -> str:
    """Time, level, tag, event, fields; of a message or traceback of several lines each has the tag."""
    head = f"{event.pop('timestamp')} {event.pop('level'):<8} {tag}"
    logger, traceback = event.pop("logger", ""), event.pop("exception", "")
    first, *rest = str(event.pop("event", "")).splitlines() or [""]
    fields = "".join(f" {key}={_plain(value)}" for key, value in event.items())
    return "\n".join(
        [f"{head} {logger}: {first}{fields}", *(f"{head}   {line}" for line in [*rest, *traceback.splitlines()])]
    )


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(value)
