"""Whether this Triton serves: every model is ready, and the light embedder embeds a word. Exit code 0 or 1.

READY alone lies: a model whose process died stays READY. The production models are asked by the product's own canary.
"""

import json
import os
import sys
import urllib.error
import urllib.request

BASE = "http://127.0.0.1:8000/v2"
CANARY = "light_embedder"
SECONDS = 4


def ask(path: str, body: bytes | None = None) -> bytes:
    """One request. Raises ``OSError`` for every answer but 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{BASE}/{path}", body, timeout=SECONDS) as answer:
        said: bytes = answer.read()
        return said


def embed(word: str) -> None:
    """The embedder, with a text and no picture; before whatever waits there."""
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [value]}
        for name, value in (("image", ""), ("text", word))
    ]
    asked = {"inputs": inputs, "outputs": [{"name": "text_embedding"}], "parameters": {"priority": 1}}
    answer = json.loads(ask(f"models/{CANARY}/infer", json.dumps(asked).encode()))
    if not any(answer["outputs"][0]["data"]):
        raise ValueError(f"{CANARY} answers nothing")


def main() -> int:
    """Print what is wrong."""
    models = [name for name in os.environ["TRITON_MODELS"].split(",") if name]
    try:
        ask("health/ready")
        for name in models:
            ask(f"models/{name}/ready")
        if CANARY in models:
            embed("health")
    except (OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
