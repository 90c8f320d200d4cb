"""Models that write captions, tiny and with random weights, in the layouts of the public ones.

What they say means nothing (but the tagger's tags, which follow the color); their parts are real:
what loads and runs these folders loads and runs the large models of the same layout.
"""

from __future__ import annotations

from pathlib import Path

TAGS = (
    ("general", 9), ("explicit", 9), ("1girl", 0), ("blue_background", 0), ("red_background", 0),
    (">_<", 0), ("char1", 4), ("some_artist", 1),
)  # fmt: skip
"""Names and categories of the tiny tagger's tags."""

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in "
    "message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|>"
    "<|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tagger(folder: Path, *, logits: bool = False, side: int = 32, count: int | None = None):
    """Write a tagger whose backgrounds' probabilities follow the mean color of an image.

    Args:
        folder: Where to.
        logits: Whether its output is what becomes probabilities.
        side: Side of its images in pixels.
        count: How many images it takes at once; any unless given.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((3, len(TAGS)), np.float32)
    bias = np.array([2.0, -2.0, 5.0, -4.0, -4.0, 0.0, 1.0, 1.0], np.float32)
    weights[0, 3] = weights[2, 4] = 8 / 255  # blue is first
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["output" if logits else "logits"]),
    ]
    if not logits:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [count, side, side, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [count, len(TAGS)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    lines = [f"{n},{name},{category},{100 - n}" for n, (name, category) in enumerate(TAGS)]
    (folder / "selected_tags.csv").write_text(
        "\n".join(["tag_id,name,category,count", *lines, ""]), encoding="utf-8"
    )
    return folder


def byte_tokens(special: list[str]):
    """Return a tokenizer that spells every byte out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(special)
    return tokens


def _spread(model) -> None:
    """Draw weights so widely that what a model says follows what it sees."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim > 1:
                values.normal_(std=1.0 if "embed" in name else 2 / values.shape[-1] ** 0.5)


def tiny_qwen_vl(folder: Path) -> Path:
    """Write a Qwen2-VL of two layers: a chat template, images in the middle of the text."""
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
               "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokens(special), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 2048, "pad_token_id": ids["<|endoftext|>"],
            "bos_token_id": None, "eos_token_id": ids["<|im_end|>"],
            "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    _spread(model)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.save_pretrained(folder)
    sizes = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes), tokenizer, Qwen2VLVideoProcessor(**sizes),
        chat_template=_TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def tiny_florence(folder: Path) -> Path:
    """Write a Florence-2 of a layer a stage, an encoder and a decoder, that follows tasks."""
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        PreTrainedTokenizerFast,
    )

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokens(special), bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    begin, pad, end, image = tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<image>"])
    config = Florence2Config(
        text_config={
            "model_type": "bart", "vocab_size": len(tokenizer), "d_model": 32,
            "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
            "max_position_embeddings": 512, "bos_token_id": begin, "eos_token_id": end,
            "pad_token_id": pad, "decoder_start_token_id": end, "forced_eos_token_id": end,
        },
        vision_config={
            "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2],
            "patch_padding": [3, 1], "patch_prenorm": [False, True], "embed_dim": [16, 32],
            "num_heads": [2, 2], "num_groups": [2, 2], "window_size": 4, "projection_dim": 32,
        },
        image_token_id=image,
    )  # fmt: skip
    model = Florence2ForConditionalGeneration(config)
    _spread(model)
    model.generation_config.update(
        bos_token_id=begin, eos_token_id=end, pad_token_id=pad, decoder_start_token_id=end,
        forced_eos_token_id=None, num_beams=1,
    )  # fmt: skip
    model.save_pretrained(folder)
    pixels = CLIPImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )
    pixels.image_seq_length = 17  # 4 x 4 patches, and their mean
    Florence2Processor(pixels, tokenizer).save_pretrained(folder)
    return folder


def tiny_blip(folder: Path) -> Path:
    """Write a BLIP of two layers, which is given an image alone."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "coat", "the"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]")
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = BlipConfig(
        text_config={**shape, "vocab_size": len(words), "encoder_hidden_size": 32,
                     "bos_token_id": 5, "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0,
                     "max_position_embeddings": 64},
        vision_config={**shape, "image_size": 32, "patch_size": 16},
        projection_dim=32,
        image_text_hidden_size=32,
    )  # fmt: skip
    model = BlipForConditionalGeneration(config)
    _spread(model)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(
        folder
    )
    return folder
