"""``python3 -m weavloader_models configs | fetch | check | prepare FOLDER``.

``configs`` writes the checked-in ``config.pbtxt`` files again; ``fetch`` fills the volume of weights; ``check`` says
whether the chosen models fit; ``prepare`` does both, writes a repository and prints what is to be loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from weavloader_models import configs, memory, options, prepare, weights
from weavloader_models.errors import CannotStart

USAGE = "use: python3 -m weavloader_models configs | fetch | check | prepare FOLDER"
NO_USE = 2
#: The models whose weights the product fetches, where the image has their code.
HUB = Path(__file__).resolve().parents[1] / "hub"


def say(line: str) -> None:
    """One line to people; standard output is for what starts the server."""
    print(line, file=sys.stderr, flush=True)


def chosen(has: memory.Machine) -> options.Chosen:
    """What the environment chooses on this machine."""
    vllm = Path(os.environ.get("TRITON_BACKENDS", "/opt/tritonserver/backends"), "vllm").is_dir()
    repositories = Path(os.environ.get("TRITON_MODEL_REPOSITORY", "") or "/models"), HUB
    own = frozenset(path.parent.name for folder in repositories for path in folder.glob("*/config.pbtxt"))
    return options.read(os.environ, tuple(has.gpus), vllm=vllm, own=own)


def main(words: list[str]) -> int:
    """The exit code."""
    try:
        match words:
            case ["configs"]:
                for path in configs.write():
                    say(f"written: {path}")
            case ["fetch"]:
                for name, folder in prepare.fetch(chosen(memory.machine()), say).items():
                    say(f"{name}: {folder}")
            case ["check"]:
                has = memory.machine()
                each = chosen(has).options.items()
                for line in memory.check({name: (one, weights.parameters(one)) for name, one in each}, has):
                    say(line)
            case ["prepare", folder]:
                has = memory.machine()
                print(",".join(prepare.prepare(chosen(has), has, Path(folder), say)))
            case _:
                say(USAGE)
                return NO_USE
    except CannotStart as error:
        say(f"the models cannot start: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
