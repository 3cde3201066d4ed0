"""Tiny graphs with the inputs and outputs of the published ones, random weights that are the same at every run, and
tokenizers of single characters.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import numpy as np

from tests.hub.graphs import BOOL, FLOAT, INT32, INT64, constant, graph, model, node

CLIP, FLORENCE = "clip_vit_b32", "florence2_captioner"
DIMENSIONS = 512
WIDTH, HEADS, LAYERS = 8, 2, 2
#: Special tokens of both, then characters.
CLIP_MARKS = ("<|startoftext|>", "<|endoftext|>", "<unk>")
BART_MARKS = ("<s>", "<pad>", "</s>", "<unk>", *(f"<loc_{number}>" for number in range(20)))
CHARACTERS = [*string.ascii_lowercase, " ", ".", ",", "?"]
#: The scale that the export of a 224-pixel run leaves in the first stage.
SCALE = "/blocks.0/blocks.0.0/channel_block/channel_attn/fn/Constant_6_output_0"


def random(seed: int, *shape: int, size: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)


def tokenizer(tokens: list[str], marks: tuple[str, ...], first: str, last: str) -> str:
    """A ``tokenizer.json`` with a token a character, whose texts begin and end with these marks."""
    ids = {token: number for number, token in enumerate(tokens)}
    frame = [{"SpecialToken": {"id": first, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    frame.append({"SpecialToken": {"id": last, "type_id": 0}})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": ids[mark], "content": mark, **flags} for mark in marks],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": None,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": frame,
                "pair": frame,
                "special_tokens": {mark: {"id": mark, "ids": [ids[mark]], "tokens": [mark]} for mark in (first, last)},
            },
            "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "vocab": ids, "merges": [], "unk_token": "<unk>", "fuse_unk": False},
        }
    )


def clip(folder: Path) -> None:
    """The last mark has the highest number, as in CLIP: the tower reads a text where its numbers are highest first."""
    first, last, unknown = CLIP_MARKS
    tokens = [first, unknown, *CHARACTERS, last]
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer(tokens, CLIP_MARKS, first, last))
    seen = [
        node("AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[56, 56], strides=[56, 56]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "projection"], ["image_embeds"]),
    ]
    write(
        folder / "vision_model.onnx",
        graph(
            seen,
            {"pixel_values": (FLOAT, ["batch", 3, 224, 224])},
            {"image_embeds": (FLOAT, ["batch", DIMENSIONS])},
            {"projection": random(1, 48, DIMENSIONS)},
        ),
    )
    read = [
        constant("one", np.int64(1)),
        node("Gather", ["words", "input_ids"], ["states"]),
        node("CumSum", ["states", "one"], ["causal"]),
        node("Cast", ["input_ids"], ["numbers"], to=INT32),
        node("ArgMax", ["numbers"], ["end"], axis=1, keepdims=1),
        node("GatherND", ["causal", "end"], ["pooled"], batch_dims=1),
        node("MatMul", ["pooled", "projection"], ["text_embeds"]),
    ]
    write(
        folder / "text_model.onnx",
        graph(
            read,
            {"input_ids": (INT64, ["batch", "sequence"])},
            {"text_embeds": (FLOAT, ["batch", DIMENSIONS])},
            {"words": random(2, len(tokens), 16), "projection": random(3, 16, DIMENSIONS)},
        ),
    )


def florence(folder: Path, scale: float = 1 / 56) -> None:
    """``scale`` is the constant that the vision tower holds."""
    tokens = [*BART_MARKS, *CHARACTERS]
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tokenizer(tokens, BART_MARKS, "<s>", "</s>"))
    seen = [
        constant(SCALE, np.float32(scale)),
        constant("form", np.array([0, 3, -1], np.int64)),
        node("AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[192, 192], strides=[192, 192]),
        node("Reshape", ["pooled", "form"], ["planes"]),
        node("Transpose", ["planes"], ["places"], perm=[0, 2, 1]),
        node("MatMul", ["places", "projection"], ["wide"]),
        node("Mul", ["wide", SCALE], ["image_features"]),
    ]
    write(
        folder / "vision_encoder.onnx",
        graph(
            seen,
            {"pixel_values": (FLOAT, ["batch", 3, "height", "width"])},
            {"image_features": (FLOAT, ["batch", "places", WIDTH])},
            {"projection": random(4, 3, WIDTH, size=300.0)},
        ),
    )
    write(
        folder / "embed_tokens.onnx",
        graph(
            [node("Gather", ["words", "input_ids"], ["inputs_embeds"])],
            {"input_ids": (INT64, ["batch", "sequence"])},
            {"inputs_embeds": (FLOAT, ["batch", "sequence", WIDTH])},
            {"words": random(5, len(tokens), WIDTH)},
        ),
    )
    mixed = [
        *masked_mean("inputs_embeds", "attention_mask", "mean"),
        node("Add", ["inputs_embeds", "mean"], ["sum"]),
        node("Tanh", ["sum"], ["last_hidden_state"]),
    ]
    write(
        folder / "encoder_model.onnx",
        graph(
            mixed,
            {"attention_mask": (INT64, ["batch", "length"]), "inputs_embeds": (FLOAT, ["batch", "length", WIDTH])},
            {"last_hidden_state": (FLOAT, ["batch", "length", WIDTH])},
        ),
    )
    write(folder / "decoder_model_merged.onnx", decoder(len(tokens)))


def masked_mean(values: str, mask: str, made: str, axis: int = 1, around: tuple[int, ...] = (2,)) -> list[bytes]:
    """The mean over an axis of what the mask [N,axis] counts, once it has got the axes ``around``."""
    return [
        constant(f"{made}_around", np.array(around, np.int64)),
        constant(f"{made}_axis", np.array([axis], np.int64)),
        node("Cast", [mask], [f"{made}_number"], to=FLOAT),
        node("Unsqueeze", [f"{made}_number", f"{made}_around"], [f"{made}_share"]),
        node("Mul", [values, f"{made}_share"], [f"{made}_counted"]),
        node("ReduceSum", [f"{made}_counted", f"{made}_axis"], [f"{made}_total"], keepdims=1),
        node("ReduceSum", [f"{made}_share", f"{made}_axis"], [f"{made}_count"], keepdims=1),
        node("Div", [f"{made}_total", f"{made}_count"], [made]),
    ]


def decoder(vocabulary: int) -> bytes:
    """A graph of two branches, as exported: without a past it computes what the encoder's states give, with one it
    takes that from the past and gives nothing in its place.
    """
    kinds = [
        (layer, side, part) for layer in range(LAYERS) for side in ("decoder", "encoder") for part in ("key", "value")
    ]
    names = [f"{layer}.{side}.{part}" for layer, side, part in kinds]
    sizes: list[int | str] = ["batch", HEADS, "past", WIDTH // HEADS]
    outputs = {"logits": (FLOAT, ["batch", "sequence", vocabulary])}
    outputs |= {f"present.{name}": (FLOAT, sizes) for name in names}
    weights = {f"w.{name}": random(10 + number, WIDTH, WIDTH) for number, name in enumerate(names)}
    weights["out"] = random(30, WIDTH, vocabulary)
    weights["out"][:, BART_MARKS.index("</s>")] *= 0.5  # answers of some length
    chosen = node(
        "If", ["use_cache_branch"], list(outputs), then_branch=branch(names, True), else_branch=branch(names, False)
    )
    inputs = {
        "encoder_attention_mask": (INT64, ["batch", "length"]),
        "encoder_hidden_states": (FLOAT, ["batch", "length", WIDTH]),
        "inputs_embeds": (FLOAT, ["batch", "sequence", WIDTH]),
        **{f"past_key_values.{name}": (FLOAT, sizes) for name in names},
        "use_cache_branch": (BOOL, [1]),
    }
    return graph([chosen], inputs, outputs, weights)


def branch(names: list[str], cached: bool) -> bytes:
    """What comes out is named apart from the other branch's, in the order of the graph's outputs."""
    word = "cached" if cached else "first"
    nodes, state, made = [constant(f"{word}.split", np.array([0, 0, HEADS, -1], np.int64))], "inputs_embeds", []
    nodes.append(constant(f"{word}.join", np.array([0, 1, WIDTH], np.int64)))
    for name in names:
        here, past, present = f"{word}.{name}", f"past_key_values.{name}", f"{word}.present.{name}"
        source = "encoder_hidden_states" if ".encoder." in name else "inputs_embeds"
        if cached and source == "encoder_hidden_states":
            nodes.append(constant(present, np.zeros((0, HEADS, 1, WIDTH // HEADS), np.float32)))
            used = past
        else:
            nodes += [
                node("MatMul", [source, f"w.{name}"], [f"{here}.wide"]),
                node("Reshape", [f"{here}.wide", f"{word}.split"], [f"{here}.split"]),
                node("Transpose", [f"{here}.split"], [f"{here}.heads"], perm=[0, 2, 1, 3]),
                node("Concat", [past, f"{here}.heads"], [present], axis=2)
                if cached
                else node("Identity", [f"{here}.heads"], [present]),
            ]
            used = present
        if source == "encoder_hidden_states":
            nodes += masked_mean(used, "encoder_attention_mask", f"{here}.mean", axis=2, around=(1, 3))
        else:
            nodes.append(node("ReduceMean", [used], [f"{here}.mean"], axes=[2], keepdims=1))
        nodes += [
            node("Reshape", [f"{here}.mean", f"{word}.join"], [f"{here}.joined"]),
            node("Add", [state, f"{here}.joined"], [f"{here}.state"]),
        ]
        state = f"{here}.state"
        made.append(present)
    nodes += [node("Tanh", [state], [f"{word}.tanh"]), node("MatMul", [f"{word}.tanh", "out"], [f"{word}.logits"])]
    anything: list[int | str] = ["a", "b", "c", "d"]
    return graph(nodes, {}, {f"{word}.logits": (FLOAT, anything[:3]), **dict.fromkeys(made, (FLOAT, anything))})


def write(file: Path, made: bytes) -> None:
    file.write_bytes(model(made))


def main(folder: Path) -> None:
    """Both models, each in a folder of its name."""
    clip(folder / CLIP)
    florence(folder / FLORENCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
