"""What is found to be wrong with captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from character_curator.captions.linting import Kind, contradictions, lint
from character_curator.captions.table import Captioned, CaptionTable
from character_curator.captions.tokens import (
    CLIP,
    LONG_TOKENS,
    SHORTER,
    TextEncoder,
    TokenizerError,
    text_encoder,
)
from tests.support.tiny_captioners import byte_tokens
from tests.support.tiny_models import tokenizer_folder

WORDS = TextEncoder("words", 4, lambda text: len(text.split()))


def table(*texts, trigger="char1", known=()):
    rows = [
        Captioned(f"{n}.png", text, f"{n}.txt", text.encode(), known=dict(known))
        for n, text in enumerate(texts)
    ]
    return CaptionTable(Path(), tuple(rows), trigger)


def kinds(found):
    return [(one.kind, one.image) for one in found]


def test_a_good_set_has_no_fault():
    assert lint(table("char1, park", "char1, sun"), encoder=WORDS) == []


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        ("", Kind.MISSING, ""),
        ("park", Kind.NO_TRIGGER, "'char1'"),
        ("park, char1", Kind.TRIGGER_LATER, "'char1'"),
        ("char1, indoors, outdoors", Kind.CONTRADICTION, "'indoors' and 'outdoors'"),
        ("char1, sun, Sun", Kind.REPEATED, "'sun'"),
        ("char1, (sun:1.2)", Kind.SYNTAX, "(sun:1.2)"),
        ("char1, <lora:a:1>", Kind.SYNTAX, "<lora:a:1>"),
    ],
)
def test_each_fault_is_found(text, kind, detail):
    (found,) = lint(table(text))
    assert (found.kind, found.image, found.detail) == (kind, "0.png", detail)
    assert found.to_mapping()["hint"] == (kind in (Kind.TRIGGER_LATER, Kind.SYNTAX))


def test_what_is_too_long_is_said_with_where_it_is_cut():
    (found,) = lint(table("char1, a b c d e"), encoder=WORDS)
    assert found.kind is Kind.TOO_LONG
    assert found.detail == "6 tokens, and words reads 4; it is cut before: d e"


def test_an_unread_caption_is_said_once():
    rows = (Captioned("a.png", "", "a.txt", b"\x81\x82", ""),)
    assert kinds(lint(CaptionTable(Path(), rows, "char1"))) == [(Kind.UNREAD, "a.png")]


def test_same_captions_and_what_is_always_there_are_hints():
    found = lint(table("char1, sun", "char1, sun", "char1, sun, park"))
    assert kinds(found) == [(Kind.SAME, "1.png"), (Kind.ALWAYS, "")]
    assert found[1].detail == "sun"
    assert all(one.is_hint for one in found)


def test_captions_are_compared_with_what_was_measured():
    measured = {"pose": "profile", "framing": "close-up"}
    found = lint(table("char1, front view, close-up", known=measured.items()))
    assert [one.detail for one in found] == ["'front view', and measured is 'profile view'"]
    assert lint(table("char1, in profile, close-up", known=measured.items())) == []
    both = lint(table("char1, in profile, front view", known=measured.items()))
    assert [one.detail for one in both] == ["'front view' and 'in profile'"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("standing, a woman sitting", []),
        ("standing, sitting", [("standing", "sitting")]),
        ("seen from behind, with her eyes closed", []),
        ("a front view of a woman, from behind", [("front view", "from behind")]),
        ("three-quarter view, front viewer", []),
        ("frontal view, side view", [("frontal view", "side view")]),
        ("solo, 2girls", [("solo", "2girls")]),
    ],
)
def test_contradictions(text, found):
    assert contradictions(text) == found


def test_clip_counts_as_open_clip_does():
    """The counts are those of ``open_clip.tokenizer.SimpleTokenizer().encode``."""
    clip = text_encoder(CLIP)
    texts = {
        "char1, a woman in a red coat, 1girl, half-body": 16,
        "it's 3 o'clock! café naïve <lora:x:1.2> 日本語 🎉": 26,
        "Black-and-white photo, F/1.8; (masterpiece:1.2)": 20,
        "": 0,
    }
    assert {text: clip.count(text) for text in texts} == texts
    assert clip.limit == 75
    kept, lost = clip.cut("cat " * 75 + "dog")
    assert (kept.split(), lost) == (["cat"] * 75, "dog")
    assert clip.cut("cat " * 74 + "dog") is None


def test_a_models_own_tokenizer_counts(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(TokenizerError, match="no tokenizer"):
        text_encoder(str(tmp_path))
    tokenizer_folder(tmp_path / "tokenizer")
    encoder = text_encoder(str(tmp_path))
    # That tokenizer spells every word out, a token a letter.
    assert (encoder.limit, encoder.count("a red coat")) == (75, 8)


@pytest.mark.parametrize(
    ("pipeline", "limit"), [("FluxPipeline", LONG_TOKENS), ("StableDiffusion3Pipeline", 256)]
)
def test_of_several_text_encoders_the_one_that_reads_most_counts(tmp_path, pipeline, limit):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    tokenizer_folder(tmp_path / "tokenizer")
    long = PreTrainedTokenizerFast(tokenizer_object=byte_tokens(["</s>"]), eos_token="</s>")
    long.save_pretrained(tmp_path / "tokenizer_2")
    encoder = text_encoder(str(tmp_path))
    assert (encoder.limit, encoder.count("a red coat")) == (limit, 10)


def test_what_is_read_is_what_a_training_encodes():
    from character_curator.training.denoisers import flux, stable_diffusion_3

    assert flux.FluxDenoiser.max_tokens == LONG_TOKENS
    sd3 = stable_diffusion_3.StableDiffusion3Denoiser.max_tokens
    assert {"StableDiffusion3Pipeline": sd3} == SHORTER
