"""The border to Weaviate's SDK: each of its exceptions, and each error text of the server, becomes one of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

import httpx
from weaviate import exceptions as sdk

from errors import ConfigurationError, PartUnavailable, PermanentError, TransientError, WeavloaderError

PART = "weaviate"

# Causes that are one object's own: its neighbours in a request have landed all the same.
OWN_CAUSES = frozenset({"store_rejected", "vector_length"})

# What an SDK call may raise. httpx's and the operating system's own errors leak out of the SDK's REST calls.
RAISED = (
    sdk.WeaviateBaseError,
    sdk.WeaviateProtobufIncompatibility,
    sdk._BatchStreamShutdownError,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    ValueError,
)

_AUTH, _DOWN, _TIMEOUT, _REJECTED, _CONFIG, _TEXT, _STATUS = range(7)

# The SDK's class, or its nearest base here, decides; _TEXT and _STATUS look at the server's own words.
KINDS: dict[type[Exception], int] = {
    sdk.AuthenticationFailedError: _AUTH,
    sdk.MissingScopeError: _AUTH,
    sdk.InsufficientPermissionsError: _AUTH,
    sdk.WeaviateStartUpError: _DOWN,
    sdk.WeaviateConnectionError: _DOWN,
    sdk.WeaviateGRPCUnavailableError: _DOWN,
    sdk.WeaviateClosedClientError: _DOWN,
    sdk.WeaviateRetryError: _DOWN,  # only an unavailable server is retried by the SDK
    sdk._BatchStreamShutdownError: _DOWN,
    sdk.WeaviateBatchFailedToReestablishStreamError: _DOWN,
    sdk.WeaviateTimeoutError: _TIMEOUT,
    sdk.SchemaValidationError: _REJECTED,
    sdk.ObjectAlreadyExistsError: _REJECTED,
    sdk.AdditionalPropertiesError: _REJECTED,
    sdk.InvalidDataModelError: _REJECTED,
    sdk.WeaviateInvalidInputError: _REJECTED,
    sdk.WeaviateAddInvalidPropertyError: _REJECTED,
    sdk.WeaviateInsertInvalidPropertyError: _REJECTED,
    sdk.WeaviateBatchValidationError: _REJECTED,
    sdk.WeaviateEmbeddedInvalidVersionError: _CONFIG,
    sdk.WeaviateUnsupportedFeatureError: _CONFIG,
    sdk.WeaviateAgentsNotInstalledError: _CONFIG,
    sdk.WeaviateProtobufIncompatibility: _CONFIG,
    sdk.UnexpectedStatusCodeError: _STATUS,
    sdk.WeaviateQueryError: _TEXT,
    sdk.WeaviateBatchError: _TEXT,
    sdk.WeaviateBatchSendError: _TEXT,
    sdk.WeaviateBatchStreamError: _TEXT,
    sdk.WeaviateDeleteManyError: _TEXT,
    sdk.WeaviateTenantGetError: _TEXT,
    sdk.WeaviateInsertManyAllFailedError: _TEXT,
    sdk.ResponseCannotBeDecodedError: _TEXT,
    sdk.EmptyResponseError: _TEXT,
    sdk.BackupFailedError: _TEXT,
    sdk.BackupCanceledError: _TEXT,
    sdk.ExportFailedError: _TEXT,
    sdk.ExportCanceledError: _TEXT,
    httpx.TimeoutException: _TIMEOUT,
    httpx.ConnectTimeout: _DOWN,
    httpx.TransportError: _DOWN,
    httpx.HTTPError: _DOWN,
    httpx.StreamError: _DOWN,
    httpx.InvalidURL: _CONFIG,
    TimeoutError: _TIMEOUT,
    OSError: _DOWN,
    ValueError: _REJECTED,
}

_UNAUTHORISED = re.compile(
    r"PERMISSION_DENIED|unauthori[sz]ed|unauthenticated|invalid api key|anonymous access|forbidden", re.I
)
_WAIT = re.compile(
    r"read-?only|memory pressure|not enough memory|no space left|connection refused|\bUNAVAILABLE\b"
    r"|shutting ?down|shutdown|leader not found|not ready",
    re.I,
)
_GONE = re.compile(r"not present in schema|could not find class|class not found", re.I)
_TIMED_OUT = re.compile(r"deadline[ _]?exceeded|timed out|timeout", re.I)
_LENGTH = re.compile(r"vector lengths|vector with length|vector dimensions", re.I)
_OWN_FAULT = re.compile(
    r"no such prop|invalid \S+ property|invalid \S+ array property|invalid uuid|is not a valid", re.I
)


def doubtful(errors: Iterable[WeavloaderError]) -> WeavloaderError | None:
    """The first of these errors that is not plainly one object's own, and so may be its neighbours' as well."""
    return next((error for error in errors if error.cause not in OWN_CAUSES), None)


def unavailable(address: str, detail: str) -> PartUnavailable:
    """The store cannot be reached."""
    if re.search(r"certificate", detail, re.I):
        hint = "its certificate must be one that this machine trusts, for the name in WEAVIATE_HOST"
    elif re.search(r"\bssl\b|\btls\b|HTTPS|illegal request line|reset by peer|disconnected", detail, re.I):
        hint = "check WEAVIATE_PORT and whether it wants TLS (WEAVLOADER_WEAVIATE_SECURE)"
    else:
        hint = "check WEAVIATE_HOST, WEAVIATE_PORT and WEAVIATE_GRPC_PORT, and that it runs"
    return PartUnavailable(PART, f"Weaviate at {address} is not reachable ({_line(detail)}): {hint}")


class KeyRefused(PartUnavailable, ConfigurationError):
    """The store refuses the API key.

    A wrong setting, so a command ends with the configuration code; and no image's fault, so that jobs wait until the
    key is right.
    """

    exit_code = ConfigurationError.exit_code
    default_cause = "unauthorised"


def refused(address: str) -> KeyRefused:
    """The store refuses the API key: jobs wait until it is right."""
    return KeyRefused(PART, f"Weaviate at {address} refused the API key: check WEAVIATE_API_KEY")


def timed_out(address: str, seconds: float) -> PartUnavailable:
    """A request took longer than it may: the store is slow or cut off, and no object is large enough to be to blame."""
    return PartUnavailable(
        PART,
        f"Weaviate at {address} did not answer within {seconds:g} s (WEAVLOADER_STORE_TIMEOUT)",
        cause="store_timeout",
    )


def version_unknown(address: str, seconds: float) -> PartUnavailable:
    """Which version of the collection is in use is told too late to go by it."""
    return PartUnavailable(
        PART,
        f"Weaviate at {address} takes more than {seconds:g} s to tell which version of the collection is in use, and an"
        " answer that old may be wrong: see what slows it down",
        cause="store_timeout",
    )


def rejected(why: str) -> PermanentError:
    """The store will never take this object."""
    return PermanentError(f"Weaviate does not take this object: {_line(why)}", cause="store_rejected")


def explain(text: str, address: str) -> WeavloaderError:
    """What the server's own words mean for the job."""
    if _LENGTH.search(text):
        return PartUnavailable(
            PART,
            f"Weaviate at {address} holds vectors of another length than the embedder makes ({_line(text)}):"
            " set WEAVLOADER_COLLECTION to another name, or WEAVLOADER_EMBEDDER to the model that filled this one, or"
            " have all vectors made anew with `python main.py reindex`",
            cause="vector_length",
        )
    if _OWN_FAULT.search(text):
        return rejected(text)
    if _UNAUTHORISED.search(text):
        return refused(address)
    if _GONE.search(text):
        return PartUnavailable(
            PART, f"Weaviate at {address} lost the collection ({_line(text)}): it is made anew", cause="collection_gone"
        )
    if _WAIT.search(text):
        cause = "read_only" if re.search("read-?only", text, re.I) else None
        remedy = "look at its log and its disk"
        if re.search("no space left", text, re.I):  # measured: an index whose disk was full goes on saying so
            remedy = "free some of its disk, then start it again"
        return PartUnavailable(PART, f"Weaviate at {address} cannot serve now ({_line(text)}): {remedy}", cause=cause)
    if _TIMED_OUT.search(text):
        return PartUnavailable(PART, f"Weaviate at {address} ran out of time: {_line(text)}", cause="store_timeout")
    return TransientError(f"Weaviate at {address} answered an error: {_line(text)}", cause="store_error")


def translate(error: Exception, address: str, seconds: float) -> WeavloaderError:
    """One of our errors for one of the SDK's (of ``RAISED``); ``seconds`` is the deadline that calls have."""
    kind = next((KINDS[base] for base in type(error).__mro__ if base in KINDS), _TEXT)
    text = _words(error)
    if kind == _AUTH:
        return refused(address)
    if kind == _DOWN:
        if "is not supported" in text:  # the SDK's refusal of an old server
            return ConfigurationError(f"Weaviate at {address} is too old: {_line(text)}")
        return unavailable(address, text)
    if kind == _TIMEOUT:
        return timed_out(address, seconds)
    if kind == _REJECTED:
        return rejected(text)
    if kind == _CONFIG:
        return ConfigurationError(f"Weaviate at {address} and its client do not fit: {_line(text)}")
    if kind == _STATUS:
        return _of_status(error, text, address)
    return explain(text, address)


def _of_status(error: Exception, text: str, address: str) -> WeavloaderError:
    status = getattr(error, "status_code", 0)
    if status in (401, 403):
        return refused(address)
    if status in (429, 502, 503, 504):
        return PartUnavailable(PART, f"Weaviate at {address} cannot serve now (HTTP {status}): try again later")
    if "Meta endpoint" in text:  # the first request: a TLS port answers 400 to plain HTTP, a foreign server 404
        return unavailable(
            address, f"HTTP {status} from what may be {'a TLS port' if status == 400 else 'no Weaviate'}"
        )
    if status in (400, 413, 422):
        return rejected(text)
    return explain(text, address)


def _words(error: BaseException) -> str:
    """The message, with that of the errors it was raised from where the SDK left them out."""
    texts: list[str] = []
    step: BaseException | None = error
    while step is not None and len(texts) < 5:
        text = str(step).strip()
        if text and not any(text in known for known in texts):
            texts.append(text)
        step = step.__cause__ or step.__context__
    grpc = re.search(r'StatusCode\.(\w+)\s+details = "([^"]*)"', " ".join(texts))  # what counts of its many lines
    return f"{grpc[1]}: {grpc[2]}" if grpc else ": ".join(texts) or type(error).__name__


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
