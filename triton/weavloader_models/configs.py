"""``config.pbtxt`` of a model, from its description and the machine's devices."""

from __future__ import annotations

import json
from pathlib import Path

from weavloader_models.description import MODELS, Model, Tensor

#: Where the checked-in repository lies.
PRODUCTION = Path(__file__).resolve().parents[1] / "production"


def rendered(model: Model, gpus: tuple[int, ...] = ()) -> str:
    """The text of the model's ``config.pbtxt``; what loads weights has an instance on each of ``gpus``."""
    lines = [
        f"# {model.purpose}",
        "# Written by `make models` from triton/weavloader_models/description.py.",
        f'backend: "{model.backend}"',
        f"max_batch_size: {model.batch}",
        *_tensors("input", model.inputs),
        *_tensors("output", model.outputs),
    ]
    if model.batch:
        urgent = " priority_levels: 2 default_priority_level: 2" if model.priorities else ""
        lines.append(f"dynamic_batching {{{urgent} }}")
    if model.backend == "vllm":
        lines.append("model_transaction_policy { decoupled: true }")
        lines.append("instance_group [ { kind: KIND_MODEL count: 1 } ]")
    elif model.weights and gpus:
        listed = ", ".join(map(str, gpus))
        lines.append(f"instance_group [ {{ kind: KIND_GPU count: {model.instances} gpus: [ {listed} ] }} ]")
    else:
        lines.append(f"instance_group [ {{ kind: KIND_CPU count: {model.instances} }} ]")
    if model.parameters:
        # A JSON string is a protobuf text string, too.
        each = [
            f"  {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
            for key, value in sorted(model.parameters.items())
        ]
        lines += ["parameters [", ",\n".join(each), "]"]
    return "\n".join(lines) + "\n"


def _tensors(word: str, tensors: tuple[Tensor, ...]) -> list[str]:
    each = [
        f'  {{ name: "{tensor.name}" data_type: TYPE_{tensor.kind} dims: [ {", ".join(map(str, tensor.dims))} ]'
        f"{' optional: true' if tensor.optional else ''} }}"
        for tensor in tensors
    ]
    return [f"{word} [", ",\n".join(each), "]"]


def write(folder: Path = PRODUCTION) -> list[Path]:
    """Write the ``config.pbtxt`` of every model; those that changed."""
    changed = []
    for model in MODELS.values():
        path = folder / model.name / "config.pbtxt"
        text = rendered(model)
        if not path.is_file() or path.read_text() != text:
            (path.parent / "1").mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(path)
    return changed
