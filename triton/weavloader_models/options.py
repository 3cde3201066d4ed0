"""Settings of the production models, from the environment. docs/models.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from weavloader_models.description import BATCHED, MODELS, VLLM, VLMS, WEIGHTS
from weavloader_models.errors import CannotStart

Number = TypeVar("Number", int, float)

DTYPES = ("auto", "bfloat16", "float16", "float32")
FORMS = ("auto", "vllm", "transformers")


@dataclass(frozen=True)
class Options:
    """How one set of weights is served. ``gpus`` is empty on the CPU; ``form`` is ``vllm`` or ``transformers``."""

    weights: str
    path: str
    revision: str
    gpus: tuple[int, ...]
    dtype: str
    form: str
    batch: int
    max_tokens: int
    temperature: float
    context: int
    tensor_parallel: int
    gpu_share: float
    images: int

    @property
    def engine(self) -> str:
        """The model of the repository that loads these weights."""
        return self.weights + (VLLM if self.form == "vllm" else BATCHED)


@dataclass(frozen=True)
class Chosen:
    """What is to be served, by weights, and where weights come from and lie.

    ``own`` are models of somebody's own repository; ``environment`` is a virtual environment with torch, '' for the
    server's own Python.
    """

    models: tuple[str, ...]
    own: tuple[str, ...]
    options: dict[str, Options]
    offline: bool
    cache: Path
    token: str = field(repr=False)
    environment: str


def read(
    environment: Mapping[str, str], gpus: tuple[int, ...], *, vllm: bool, own: frozenset[str] = frozenset()
) -> Chosen:
    """The settings on a machine of these ``gpus``, whose Triton has the vLLM backend or not, and ``own`` models beside.

    Raises ``CannotStart`` naming the setting that is wrong.
    """
    if "@" in urlsplit(environment.get("HF_ENDPOINT", "")).netloc:
        raise CannotStart(
            "HF_ENDPOINT has a login, which messages would show: leave it out, and set HF_TOKEN to a token"
        )
    named = tuple(dict.fromkeys(_words(environment.get("TRITON_MODELS", ""))))
    if not named:
        raise CannotStart(f"TRITON_MODELS names no model: choose of {', '.join(MODELS)}")
    models = tuple(name for name in named if name not in own)
    for name in models:
        if name not in MODELS:
            raise CannotStart(f"TRITON_MODELS has {name!r}, which is none of {', '.join((*MODELS, *sorted(own)))}")
    wanted = dict.fromkeys(_weights_of(name) for name in models)
    options = {name: _options(name, environment, models, gpus, vllm=vllm) for name in wanted}
    return Chosen(
        models,
        tuple(name for name in named if name in own),
        options,
        _switch(environment, "TRITON_OFFLINE"),
        Path(environment.get("HF_HOME", "") or "/cache/huggingface"),
        _token(environment),
        environment.get("TRITON_ENVIRONMENT", "").strip(),
    )


def _weights_of(name: str) -> str:
    return name.removesuffix(BATCHED).removesuffix(VLLM)


def _options(
    name: str, environment: Mapping[str, str], models: tuple[str, ...], gpus: tuple[int, ...], *, vllm: bool
) -> Options:
    default = WEIGHTS[name]
    given = _Given(environment, f"TRITON_{name.upper()}_")
    here = _devices(given, gpus)
    form = given.one_of("FORM", FORMS, "auto") if name in VLMS else "transformers"
    if form == "auto":
        form = "vllm" if vllm and here and name + BATCHED not in models else "transformers"
    if name + VLLM in models:
        form = "vllm"
    if form == "vllm" and not here:
        raise CannotStart(f"{given.name('FORM')} is vllm, which needs a GPU: set it to transformers")
    if form == "vllm" and not vllm:
        raise CannotStart(f"{given.name('FORM')} is vllm, and this Triton has no vLLM backend: use the image `vllm`")
    if form == "vllm" and name + BATCHED in models:
        raise CannotStart(
            f"TRITON_MODELS has {name + BATCHED}, and {given.name('FORM')} is vllm: choose one of the two"
        )
    tensor_parallel = given.number("TENSOR_PARALLEL", 1, int, least=1)
    if form == "vllm" and tensor_parallel > len(here):
        raise CannotStart(
            f"{given.name('TENSOR_PARALLEL')} is {tensor_parallel}, and there are {len(here)} GPUs for it"
        )
    dtype = given.one_of("DTYPE", DTYPES, "auto")
    path = given.text("PATH", default.path)
    return Options(
        weights=name,
        path=path,
        revision=given.text("REVISION", default.revision if path == default.path else "main"),
        gpus=here,
        dtype=("bfloat16" if here else "float32") if dtype == "auto" else dtype,
        form=form,
        batch=given.number("BATCH", default.batch, int, least=default.least_batch),
        max_tokens=given.number("MAX_TOKENS", default.max_tokens, int, least=1 if default.generates else 0),
        temperature=given.number("TEMPERATURE", 0.0, float, least=0),
        context=given.number("CONTEXT", default.context, int, least=1),
        tensor_parallel=tensor_parallel,
        gpu_share=given.number("GPU_SHARE", 0.8, float, least=0.01, most=1),
        images=given.number("IMAGES", 1, int, least=1),
    )


def _devices(given: _Given, gpus: tuple[int, ...]) -> tuple[int, ...]:
    """``auto``: all GPUs, else the CPU; ``cpu``; or the numbers of GPUs."""
    said = given.text("DEVICE", "auto")
    if said == "auto":
        return gpus
    if said == "cpu":
        return ()
    try:
        chosen = tuple(dict.fromkeys(int(word) for word in _words(said)))
    except ValueError:
        raise CannotStart(f"{given.name('DEVICE')} is {said!r}: use auto, cpu or numbers of GPUs, as 0,1") from None
    away = [str(number) for number in chosen if number not in gpus]
    if away:
        raise CannotStart(f"{given.name('DEVICE')} names GPU {', '.join(away)}, and this machine has {len(gpus)}")
    return chosen


class _Given:
    """The settings of one prefix."""

    def __init__(self, environment: Mapping[str, str], prefix: str) -> None:
        self._environment, self._prefix = environment, prefix

    def name(self, word: str) -> str:
        """The variable."""
        return self._prefix + word

    def text(self, word: str, default: str) -> str:
        """What it says, ``default`` where it is empty."""
        return self._environment.get(self.name(word), "").strip() or default

    def one_of(self, word: str, allowed: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        said = self.text(word, default)
        if said not in allowed:
            raise CannotStart(f"{self.name(word)} is {said!r}: use {', '.join(allowed)}")
        return said

    def number(
        self, word: str, default: Number, kind: type[Number], *, least: float, most: float | None = None
    ) -> Number:
        """A number within bounds."""
        said = self.text(word, str(default))
        try:
            value: Number | None = kind(said)
        except ValueError:
            value = None
        if value is None or not least <= value or (most is not None and value > most):
            bounds = f"from {least:g}" + (f" to {most:g}" if most is not None else " on")
            raise CannotStart(f"{self.name(word)} is {said!r}: use a number {bounds}")
        return value


def _switch(environment: Mapping[str, str], name: str) -> bool:
    said = environment.get(name, "").strip().lower()
    if said in ("", "0", "false", "no"):
        return False
    if said in ("1", "true", "yes"):
        return True
    raise CannotStart(f"{name} is {said!r}: use 1 or 0")


def _token(environment: Mapping[str, str]) -> str:
    """The token for gated weights, from ``HF_TOKEN`` or the file that ``HF_TOKEN_FILE`` names."""
    if token := environment.get("HF_TOKEN", "").strip():
        return token
    if not (file := environment.get("HF_TOKEN_FILE", "").strip()):
        return ""
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"HF_TOKEN_FILE cannot be read: {error}") from None


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]
