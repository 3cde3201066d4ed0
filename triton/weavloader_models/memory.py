"""Whether the chosen models fit, before anything is loaded."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weavloader_models.errors import CannotStart
from weavloader_models.options import Options

GB = 1e9
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
#: What activations and generated tokens take beside the weights, as a share of them: docs/deploy.md's quarter.
BESIDE = 1.25
#: A process with torch, and a CUDA context.
PROCESS_BYTES = 0.7 * GB
CONTEXT_BYTES = 0.5 * GB


@dataclass(frozen=True)
class Machine:
    """Bytes of memory that may be used, and of each GPU by its number."""

    memory: float
    gpus: dict[int, float]


def machine() -> Machine:
    """This one. Without NVIDIA's tools there is no GPU."""
    return Machine(_memory(), _gpus())


def _memory(root: Path = Path("/")) -> float:
    """What is available, within the container's limit."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    available = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = float((root / "sys/fs/cgroup/memory.max").read_text())
        used = float((root / "sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # none, or `max`
        return available
    return min(available, limit - used)


def _gpus() -> dict[int, float]:
    words = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [line.split(",") for line in done.stdout.splitlines() if line.strip()]
    return {int(number): float(mib) * 2**20 for number, mib in rows}


def need(options: Options, parameters: float) -> float:
    """Bytes that one instance takes on its device, or a vLLM's weights on each of its GPUs."""
    weights = parameters * BYTES[options.dtype]
    if options.form == "vllm":
        return weights / options.tensor_parallel
    return weights * BESIDE + (CONTEXT_BYTES if options.gpus else PROCESS_BYTES)


def check(chosen: Mapping[str, tuple[Options, float | None]], has: Machine) -> list[str]:
    """One line a model: what it takes where. Raises ``CannotStart`` with the sum of what does not fit.

    Weights of unknown size are told and not counted.
    """
    lines, on_gpu, on_cpu = [], dict.fromkeys(has.gpus, 0.0), 0.0
    for name, (options, count) in chosen.items():
        if count is None:
            lines.append(f"{name}: the size of {options.path} is not known, its memory is not checked")
            continue
        takes = need(options, count)
        if options.form == "vllm":
            takes = _vllm(options, takes, has)
        where = f"GPU {', '.join(map(str, _used(options)))}" if options.gpus else "the CPU"
        lines.append(f"{name}: {takes / GB:.1f} GB on {where} ({count / 1e9:.2f} billion numbers, {options.dtype})")
        for gpu in _used(options):
            on_gpu[gpu] += takes
        on_cpu += 0 if options.gpus else takes
    remedy = "choose fewer or smaller models"
    if on_cpu > has.memory:
        raise CannotStart(
            f"{'; '.join(lines)}: that is {on_cpu / GB:.1f} GB of {has.memory / GB:.1f} GB of memory: {remedy}"
        )
    for gpu, taken in on_gpu.items():
        if taken > has.gpus[gpu]:
            told = f"{'; '.join(lines)}: that is {taken / GB:.1f} GB of {has.gpus[gpu] / GB:.1f} GB of GPU {gpu}"
            raise CannotStart(f"{told}: {remedy}, or share them among GPUs by TRITON_…_DEVICE")
    return lines


def _used(options: Options) -> tuple[int, ...]:
    return options.gpus[: options.tensor_parallel] if options.form == "vllm" else options.gpus


def _vllm(options: Options, weights: float, has: Machine) -> float:
    """vLLM takes its share of a GPU at once, whatever its weights; they must leave a fifth of it for its cache."""
    share = min(has.gpus[gpu] for gpu in _used(options)) * options.gpu_share
    if weights * BESIDE > share:
        prefix = f"TRITON_{options.weights.upper()}_"
        raise CannotStart(
            f"{options.weights}: vLLM gets {share / GB:.1f} GB a GPU ({prefix}GPU_SHARE), and the weights take"
            f" {weights / GB:.1f} GB of each and a quarter beside: raise {prefix}TENSOR_PARALLEL or choose smaller ones"
        )
    return share
