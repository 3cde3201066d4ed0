"""Every exception of the SDK becomes one of ours, by what it means for a job."""

from __future__ import annotations

import inspect

import httpx
import pytest
from weaviate import exceptions as sdk

from errors import ConfigurationError, PartUnavailable, PermanentError, TransientError, WeavloaderError
from store import border

ADDRESS = "http://store.example.org:8080"

SDK_CLASSES = sorted(
    {kind for _, kind in inspect.getmembers(sdk, inspect.isclass) if kind.__module__ == sdk.__name__}
    - {sdk.WeaviateBaseError},
    key=lambda kind: kind.__name__,
)
SDK_EXCEPTIONS = [kind for kind in SDK_CLASSES if issubclass(kind, Exception)]
HTTP_EXCEPTIONS = [
    kind
    for _, kind in inspect.getmembers(httpx, inspect.isclass)
    if issubclass(kind, Exception) and kind is not httpx.CookieConflict  # we set no cookies
]


def made(kind: type[Exception], text: str = "") -> Exception:
    """An instance without its constructor, whose arguments differ from class to class."""
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    return error


@pytest.mark.parametrize("kind", SDK_EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_each_exception_of_the_sdk_is_mapped_by_name(kind: type[Exception]):
    assert kind in border.KINDS
    assert issubclass(kind, border.RAISED)


@pytest.mark.parametrize("kind", HTTP_EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_each_exception_of_the_http_client_below_is_mapped(kind: type[Exception]):
    assert any(base in border.KINDS for base in kind.__mro__)
    assert issubclass(kind, border.RAISED)


@pytest.mark.parametrize("kind", [*SDK_EXCEPTIONS, *HTTP_EXCEPTIONS, OSError, TimeoutError, ValueError])
def test_each_becomes_one_line_that_names_the_store_or_the_object(kind: type[Exception]):
    ours = border.translate(made(kind, "some\nwords"), ADDRESS, 60)
    assert isinstance(ours, WeavloaderError)
    assert "\n" not in str(ours)
    assert ADDRESS in str(ours) or "this object" in str(ours)


@pytest.mark.parametrize(
    ("words", "kind", "cause"),
    [
        ("store is read-only due to: disk usage too high", PartUnavailable, "read_only"),
        ("extract auth: unauthorized: invalid api key", border.KeyRefused, "unauthorised"),
        ("memory pressure: cannot process batch: not enough memory", PartUnavailable, "part_unavailable"),
        ("class 'X' not present in schema", PartUnavailable, "collection_gone"),
        ("could not find class X in schema", PartUnavailable, "collection_gone"),
        ("new node has a vector with length 9. Existing nodes have 8", PartUnavailable, "vector_length"),
        ("knn search: query node: 8 vs 9: vector lengths don't match", PartUnavailable, "vector_length"),
        ("no such prop with name 'zzz' found in class 'X' in the schema", PermanentError, "store_rejected"),
        ("invalid number property 'n' on class 'X': requires a float", PermanentError, "store_rejected"),
        ("context deadline exceeded", PartUnavailable, "store_timeout"),
        ("Deadline Exceeded", PartUnavailable, "store_timeout"),
        ("something that nobody has seen before", TransientError, "store_error"),
    ],
)  # fmt: skip
def test_the_servers_words_decide(words: str, kind: type[WeavloaderError], cause: str):
    ours = border.explain(words, ADDRESS)
    assert type(ours) is kind
    assert ours.cause == cause


def test_a_store_whose_disk_was_full_is_to_be_started_again():
    ours = border.explain("target vector clip: write /data/x.condensed: no space left on device", ADDRESS)
    assert type(ours) is PartUnavailable
    assert "start it again" in str(ours)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", PartUnavailable),
        ("UNAUTHENTICATED", border.KeyRefused),
        ("DEADLINE_EXCEEDED", PartUnavailable),
        ("INTERNAL", TransientError),
    ],
)
def test_a_grpc_status_decides_and_its_many_lines_become_one(code: str, kind: type[WeavloaderError]):
    lines = f'<AioRpcError of RPC that terminated with:\n\tstatus = StatusCode.{code}\n\tdetails = "Socket closed"\n>'
    ours = border.translate(sdk.WeaviateBatchError(lines), ADDRESS, 60)
    assert type(ours) is kind
    assert "AioRpcError" not in str(ours)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, border.KeyRefused),
        (403, border.KeyRefused),
        (422, PermanentError),
        (429, PartUnavailable),
        (500, TransientError),
        (502, PartUnavailable),
        (503, PartUnavailable),
    ],
)
def test_an_http_status_decides(status: int, kind: type[WeavloaderError]):
    answer = httpx.Response(status, json={"error": [{"message": "some words"}]})
    assert type(border.translate(sdk.UnexpectedStatusCodeError("asking", answer), ADDRESS, 60)) is kind


def test_a_server_that_is_too_old_is_a_wrong_configuration():
    old = sdk.WeaviateStartUpError("Weaviate version 1.20.0 is not supported. Please use Weaviate version 1.27.0")
    assert type(border.translate(old, ADDRESS, 60)) is ConfigurationError
