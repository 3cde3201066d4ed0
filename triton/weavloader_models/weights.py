"""Where the weights lie, fetched if need be, and how many numbers they are."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path

from weavloader_models.description import WEIGHTS
from weavloader_models.errors import CannotStart, WeightsAway
from weavloader_models.options import Chosen, Options

#: Other forms of the same weights.
NOT_WANTED = ("open_clip*", "*.onnx", "onnx/*", "*.h5", "*.msgpack", "*.gguf", "*.ckpt", "original/*", "*.tflite")
_LENGTH = struct.Struct("<Q")


def folder_of(options: Options, chosen: Chosen, report: Callable[[str], None]) -> Path:
    """The folder with the weights: the one that is named, else that of the hub's cache, where it is fetched into.

    Raises ``CannotStart`` when there is none, or ``WeightsAway`` when they cannot be fetched. The token stands in no
    message.
    """
    setting = f"TRITON_{options.weights.upper()}_PATH"
    named = Path(options.path)
    if named.is_dir():
        return _checked(named, setting)
    if named.is_absolute() or options.path.startswith("."):
        raise CannotStart(f"{setting} is {options.path}, where no folder is")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CannotStart(f"{setting} is {options.path}, no folder, and this Python has no huggingface_hub") from None

    if not chosen.offline:
        report(f"{options.weights}: {options.path} at {options.revision}: fetching what {chosen.cache} has not")
    try:
        found = snapshot_download(
            options.path,
            revision=options.revision,
            token=chosen.token or False,
            cache_dir=chosen.cache / "hub",
            local_files_only=chosen.offline,
            ignore_patterns=list(NOT_WANTED),
        )
    except Exception as error:  # noqa: BLE001 - the hub's client raises nearly anything; each means the same here
        raise _why_not(options, chosen, error) from None
    return _checked(Path(found), setting)


def _checked(folder: Path, setting: str) -> Path:
    if not (folder / "config.json").is_file():
        raise CannotStart(f"{setting}: {folder} has no config.json, so it holds no model")
    return folder


def _why_not(options: Options, chosen: Chosen, error: Exception) -> CannotStart:
    what = f"the weights of {options.weights} ({options.path} at {options.revision})"
    if chosen.offline:
        return CannotStart(
            f"{what} are not in {chosen.cache}, and TRITON_OFFLINE is set: fetch them where there is a network"
        )
    kind = type(error).__name__
    if kind == "GatedRepoError":
        remedy = "ask for access with the account of HF_TOKEN" if chosen.token else "set HF_TOKEN to a token that may"
        return CannotStart(f"{what} are given only to who accepted their licence: {remedy}")
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"):
        return CannotStart(f"{what} are not there: check TRITON_{options.weights.upper()}_PATH and _REVISION ({kind})")
    return WeightsAway(f"{what} cannot be fetched: {scrubbed(str(error), chosen.token)}")


def scrubbed(text: str, token: str) -> str:
    """The text on one line, without the token."""
    line = " ".join(text.split())[:300]
    return line.replace(token, "…") if token else line


def parameters(options: Options, folder: Path | None = None) -> float | None:
    """How many numbers the weights are: counted in the folder's safetensors, else as published for the default ones,
    else by the size of PyTorch's own files, else None.
    """
    if folder and (files := sorted(folder.glob("*.safetensors"))):
        return float(sum(_counted(file) for file in files))
    if options.path == WEIGHTS[options.weights].path:
        return WEIGHTS[options.weights].parameters
    if folder and (files := sorted(folder.glob("pytorch_model*.bin"))):
        return sum(file.stat().st_size for file in files) / 4
    return None


def _counted(file: Path) -> int:
    """The numbers of one file, by its header."""
    try:
        with file.open("rb") as opened:
            (length,) = _LENGTH.unpack(opened.read(_LENGTH.size))
            header = json.loads(opened.read(length))
        return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error, MemoryError, OverflowError) as error:
        raise CannotStart(
            f"{file} is damaged: {type(error).__name__}; remove it, so that it is fetched again"
        ) from None
