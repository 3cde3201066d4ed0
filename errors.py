"""The one error tree.

An adapter translates its SDK's exceptions into this tree once, at its border; what happens to a job follows
from the class alone::

    WeavloaderError
    ├── UsageError            the command line was used wrongly                      exit 2
    ├── NotFound              what was asked for is not there                        exit 1
    ├── ConfigurationError    a setting is wrong or missing                          exit 4
    ├── PartUnavailable       a part cannot serve now: the job waits, no attempt is  exit 3
    │   ├── LoginRefused      spent (nobody's image is at fault)
    │   └── PartDied          as above, but one of the images it had in hand may have killed it
    ├── TransientError        this attempt failed, a later one may not: retried with back-off, then dead
    └── PermanentError        no later attempt can succeed: dead at once

    SkipImage                 not an error: the image is left out, with a reason

``cause`` is a short snake_case word of a bounded set. It is a metric label and the dead letter's cause, so it never
holds an id, a URL or a message.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_CONFIGURATION = 4


class WeavloaderError(Exception):
    """Root of the tree. ``str(error)`` is one line that names what was wrong and what to do."""

    exit_code = EXIT_FAILED
    default_cause = "unexpected"

    def __init__(self, message: str, *, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause or self.default_cause

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(kind: type[WeavloaderError], message: str, state: dict[str, object]) -> WeavloaderError:
    """Unpickle without the subclass's own constructor signature (Celery pickles errors between processes)."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class UsageError(WeavloaderError):
    """A command was given arguments it cannot use."""

    exit_code = EXIT_USAGE
    default_cause = "usage"


class NotFound(WeavloaderError):
    """What was asked for is not there, or not for the eyes of who asks."""

    default_cause = "not_found"


class ConfigurationError(WeavloaderError):
    """A setting is wrong or missing; the message names the setting and the remedy."""

    exit_code = EXIT_CONFIGURATION
    default_cause = "configuration"


class PartUnavailable(WeavloaderError):
    """A part (``redis``, ``triton``, ``weaviate``, ``storage``, ``sage`` …) cannot serve now.

    Jobs wait in the ledger and keep their attempts; a command ends with exit code 3.
    """

    exit_code = EXIT_UNREACHABLE
    default_cause = "part_unavailable"

    def __init__(self, part: str, message: str, *, cause: str | None = None) -> None:
        super().__init__(message, cause=cause)
        self.part = part


class LoginRefused(PartUnavailable):
    """A source refuses the login for everything (not just for one protected file): the source pauses."""

    default_cause = "login_refused"


class PartDied(PartUnavailable):
    """A part died while it had the image in hand: nobody knows yet whether of this image.

    The image waits like others, and is a suspect from then on: it is tried alone.
    """

    default_cause = "part_died"


class TransientError(WeavloaderError):
    """This attempt failed for a reason that may pass: retried with back-off, then a dead letter.

    Causes: ``fetch_timeout``, ``fetch_failed``, ``not_yet_uploaded``, ``model_timeout``, ``model_error``,
    ``model_answer`` (garbage, NaN or a wrong shape), ``store_error``, ``job_timeout``.
    """

    default_cause = "transient"


class SourceAway(TransientError):
    """The source that an image came from is not there: it ended, and may never come back."""

    default_cause = "fetch_failed"


class PermanentError(WeavloaderError):
    """No later attempt can succeed: a dead letter at once.

    Causes: ``not_found``, ``image_empty``, ``image_truncated``, ``not_an_image``, ``image_bomb``, ``image_too_large``,
    ``image_format``, ``host_not_allowed``, ``too_many_redirects``, ``store_rejected``, ``bad_record``.
    """

    default_cause = "permanent"


class SkipImage(Exception):
    """The image is left out on purpose; ``reason`` is a snake_case word (``denied_node``, ``protected``, …)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
