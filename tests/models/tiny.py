"""Tiny models of the production models' architectures, with random weights, each from its own configuration class.

Runs in the environment with torch: ``python tiny.py FOLDER`` makes a folder a model. Their tokenizers know single
characters.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, processors
from transformers import (
    AlignConfig,
    AlignModel,
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    EfficientNetImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

CHARACTERS = [*string.digits, *string.ascii_letters, *string.punctuation, " ", "\n"]
CHAT = "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"  # noqa: E501


def tokenizer(special: list[str], frame: tuple[str, str] | None = None, **named: Any) -> Any:
    """One token a character; ``special`` have the first ids; ``frame`` begins and ends every text."""
    ids = {token: number for number, token in enumerate([*special, *CHARACTERS])}
    made = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token=named["unk_token"]))
    made.decoder = decoders.Fuse()
    if frame:
        first, last = frame
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(first, ids[first]), (last, ids[last])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **named)


def random(model: Any, size: float = 0.2) -> Any:
    """Weights that are large enough for every input to have an answer of its own."""
    torch.manual_seed(7)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=size)
    return model.eval()


def generating(model: Any, special: int, **ids: int) -> Any:
    """What the model generates is no special token, and not too short."""
    keep = {ids["eos_token_id"]}
    model.generation_config = GenerationConfig(
        min_new_tokens=4,
        no_repeat_ngram_size=2,
        suppress_tokens=[number for number in range(special) if number not in keep],
        **ids,
    )
    return model


def clip(folder: Path) -> None:
    special = ["<|startoftext|>", "<|endoftext|>", "<unk>"]
    first, last, unknown = special
    tokens = tokenizer(
        special, (first, last), bos_token=first, eos_token=last, pad_token=last, unk_token=unknown, model_max_length=77
    )
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 30,
        "patch_size": 10,
    }
    random(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}, do_center_crop=True
    ).save_pretrained(folder)
    tokens.save_pretrained(folder)


def bert_tokenizer() -> Any:
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return tokenizer(
        special,
        ("[CLS]", "[SEP]"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def align(folder: Path) -> None:
    tokens = bert_tokenizer()
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    # EfficientNet rounds channels to multiples of 8 and doubles them: these end in 64.
    vision = {
        "image_size": 32,
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 30],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6],
        "hidden_dim": 64,
    }
    random(AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=64))).save_pretrained(folder)
    EfficientNetImageProcessor(
        size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    ).save_pretrained(folder)
    tokens.save_pretrained(folder)


def colbert(folder: Path) -> None:
    """And ``colbert_lacking`` beside it: the same without the projection."""
    from transformers import BertModel

    tokens = bert_tokenizer()
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
    )

    # As in the published weights: `bert.…` and `linear.weight`.
    class Published(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config, add_pooling_layer=False)
            self.linear = torch.nn.Linear(32, 128, bias=False)

    from safetensors.torch import save_file

    weights = random(Published()).state_dict()
    for place, kept in ((folder, weights), (folder.with_name("colbert_lacking"), without_projection(weights))):
        place.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(place)
        tokens.save_pretrained(place)
        save_file(
            {name: value.contiguous() for name, value in kept.items()}, place / "model.safetensors", {"format": "pt"}
        )


def without_projection(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in weights.items() if not name.startswith("linear")}


def florence2base(folder: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<image>", *(f"<loc_{number}>" for number in range(1000))]
    tokens = tokenizer(
        special,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=1024,
        extra_special_tokens={"image_token": "<image>"},
    )
    text = {
        "model_type": "bart",
        "vocab_size": len(tokens),
        "max_position_embeddings": 1024,
        "encoder_layers": 1,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "decoder_layers": 1,
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 2,
        "d_model": 32,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
    }
    vision = {
        "depths": [1],
        "patch_size": [7],
        "patch_stride": [4],
        "patch_padding": [3],
        "patch_prenorm": [False],
        "embed_dim": [16],
        "num_heads": [2],
        "num_groups": [2],
        "window_size": 4,
        "projection_dim": 32,
    }
    model = Florence2ForConditionalGeneration(
        Florence2Config(text_config=text, vision_config=vision, image_token_id=4, is_encoder_decoder=True)
    )
    model.generation_config = GenerationConfig(
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        min_new_tokens=6,
        num_beams=3,
        no_repeat_ngram_size=2,
        suppress_tokens=[0, 1, 3, 4],
    )
    random(model).save_pretrained(folder)
    # 32 pixels by a stride of 4: 64 places, and their mean.
    pixels = CLIPImageProcessor(
        size={"height": 32, "width": 32},
        do_center_crop=False,
        crop_size={"height": 32, "width": 32},
        image_seq_length=65,
    )
    forms = ("pure_text", "description_with_bboxes", "phrase_grounding")
    parsed: dict[str, dict[str, Any]] = {form: {} for form in forms}
    Florence2Processor(pixels, tokens, post_processor_config=parsed).save_pretrained(folder)


def gemma3(folder: Path) -> None:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<image_soft_token>", "<start_of_image>", "<end_of_image>"]
    tokens = tokenizer(
        special,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention"],
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        tie_word_embeddings=False,  # tied ones would say the last word again and again
        image_token_index=4,
        boi_token_index=5,
        eoi_token_index=6,
    )
    model = random(Gemma3ForConditionalGeneration(config))
    generating(model, len(special), pad_token_id=0, eos_token_id=1, bos_token_id=2).save_pretrained(folder)
    chat = "<bos>" + CHAT.replace("IMAGE", "<start_of_image>")
    pixels = Gemma3ImageProcessor(size={"height": 32, "width": 32})
    Gemma3Processor(pixels, tokens, chat_template=chat, image_seq_length=4).save_pretrained(folder)


def qwen2_5_vl(folder: Path) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>", "<unk>"]
    tokens = tokenizer(
        special,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=special[1:7],
    )
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        "pad_token_id": 0,
        "eos_token_id": 2,
        "bos_token_id": 0,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_heads": 4,
        "out_hidden_size": 32,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=5,
        video_token_id=6,
    )
    model = random(Qwen2_5_VLForConditionalGeneration(config))
    generating(model, len(special), pad_token_id=0, eos_token_id=2, bos_token_id=0).save_pretrained(folder)
    chat = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    pixels = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    Qwen2_5_VLProcessor(pixels, tokens, Qwen2VLVideoProcessor(), chat_template=chat).save_pretrained(folder)


def main(folder: Path) -> None:
    """Make them all."""
    for make in (clip, align, colbert, florence2base, gemma3, qwen2_5_vl):
        make(folder / make.__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
