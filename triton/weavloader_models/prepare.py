"""A repository of the chosen models for this machine: their weights are there, they fit, the rest is not loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from weavloader_models import memory, weights
from weavloader_models.configs import PRODUCTION, rendered
from weavloader_models.description import BATCHED, MODELS, MOST_WAITING, VLLM, WEIGHTS, Model, with_needs
from weavloader_models.errors import CannotStart
from weavloader_models.memory import Machine
from weavloader_models.options import Chosen, Options

Report = Callable[[str], None]


def fetch(chosen: Chosen, report: Report) -> dict[str, Path]:
    """The folder of every chosen set of weights."""
    return {name: weights.folder_of(options, chosen, report) for name, options in chosen.options.items()}


def prepare(chosen: Chosen, has: Machine, target: Path, report: Report) -> tuple[str, ...]:
    """Write the repository ``target``, replacing what was there; the models to load, each after what it needs.

    Memory is checked before anything is fetched, where sizes are published, and after, by the files themselves.
    Raises ``CannotStart``.
    """
    memory.check({name: (options, weights.parameters(options)) for name, options in chosen.options.items()}, has)
    folders = fetch(chosen, report)
    sizes = {name: (options, weights.parameters(options, folders[name])) for name, options in chosen.options.items()}
    for line in memory.check(sizes, has):
        report(line)
    models = adapted(chosen, folders)
    loaded = with_needs(chosen.models, models)
    try:
        shutil.rmtree(target, ignore_errors=True)
        for name in loaded:
            _put(models[name], chosen, folders, target / name)
    except OSError as error:
        raise CannotStart(f"the model repository {target} cannot be written: {error}") from None
    return (*chosen.own, *loaded)


def adapted(chosen: Chosen, folders: dict[str, Path]) -> dict[str, Model]:
    """The described models of the chosen weights, with what settings say of them."""
    models = {}
    for model in MODELS.values():
        owner = model.name.removesuffix(BATCHED).removesuffix(VLLM)
        if owner not in chosen.options:
            continue
        options = chosen.options[owner]
        if model.backend == "vllm":
            models[model.name] = _pinned(model, options)
        elif model.weights:
            parameters = _engine(options, folders[owner], chosen.environment)
            models[model.name] = replace(model, batch=options.batch, parameters=parameters)
        else:
            models[model.name] = replace(
                model, instances=_waiting(options), needs=(options.engine,), parameters=_thin(options)
            )
    return models


def _waiting(options: Options) -> int:
    """Processes of the field's form. vLLM takes up requests as they come, and gets only those that one waits for."""
    return options.batch if options.form == "vllm" else min(options.batch, MOST_WAITING)


def _pinned(model: Model, options: Options) -> Model:
    """The backend is told its GPUs by number; it takes the first of all where it does not know the parameter."""
    used = options.gpus[: options.tensor_parallel]
    return replace(model, parameters={"GPU_DEVICE_IDS": ",".join(map(str, used))})


def _engine(options: Options, folder: Path, environment: str) -> dict[str, str]:
    default = WEIGHTS[options.weights]
    found = {"weights": str(folder), "dtype": options.dtype, "context": str(options.context)}
    if environment:
        found["EXECUTION_ENV_PATH"] = environment
    if default.generates:
        found |= {"max_tokens": str(options.max_tokens), "temperature": str(options.temperature)}
    return found


def _thin(options: Options) -> dict[str, str]:
    found = {"engine": options.engine}
    if options.form == "vllm":
        sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        found |= {"prompt": WEIGHTS[options.weights].prompt, "sampling": json.dumps(sampling)}
    return found


def engine_arguments(options: Options, folder: Path) -> dict[str, object]:
    """``model.json`` of Triton's vLLM backend: vLLM's own engine arguments."""
    return {
        "model": str(folder),
        "dtype": options.dtype,
        "tensor_parallel_size": options.tensor_parallel,
        "max_model_len": options.context,
        "gpu_memory_utilization": options.gpu_share,
        "limit_mm_per_prompt": {"image": options.images},
        "disable_log_stats": True,
    }


def _put(model: Model, chosen: Chosen, folders: dict[str, Path], folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    gpus = chosen.options[model.weights].gpus if model.weights else ()
    (folder / "config.pbtxt").write_text(rendered(model, gpus))
    if model.backend == "vllm":
        arguments = engine_arguments(chosen.options[model.weights], folders[model.weights])
        (folder / "1" / "model.json").write_text(json.dumps(arguments, indent=2) + "\n")
    else:
        (folder / "1" / "model.py").symlink_to(PRODUCTION / model.name / "1" / "model.py")
