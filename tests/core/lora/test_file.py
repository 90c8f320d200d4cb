"""The LoRA file: names, bytes and metadata, what is refused, and training that goes on from it."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors import safe_open

from character_curator.lora import file as lora_file
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.lora.dora import low_rank
from character_curator.lora.header import LoraCard, metadata
from tests.support.full_disk import disk_that_fills
from tests.support.lora_weights import KINDS, kohya, kohya_xl, pipeline_in, shake, trained
from tests.support.tiny_outputs import distance, run_unet, unet_inputs

CARD = LoraCard(title="char1", architecture="stable-diffusion-v1", trigger_phrase="char1 woman")


@pytest.fixture
def tensors(tiny_sd15):
    unet = pipeline_in(tiny_sd15).unet
    return lora_file.tensors_of(trained({"denoiser": unet}, LoraSettings()), kohya)


def test_names_and_shapes_are_kohyas(tensors):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{name}.lora_down.weight"].shape == (8, 32)
    assert tensors[f"{name}.lora_up.weight"].shape == (32, 8)
    assert tensors[f"{name}.alpha"].shape == ()
    assert float(tensors[f"{name}.alpha"]) == 8
    assert not [key for key in tensors if not key.startswith("lora_unet_")]


def test_a_text_encoders_layers_are_named_alike_whatever_its_module_is_called():
    expected = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert kohya("te1", "encoder.layers.0.mlp.fc1") == expected
    assert kohya("te1", "text_model.encoder.layers.0.mlp.fc1") == expected
    assert kohya_xl("te2", "text_projection") == "lora_te2_text_projection"


def test_the_same_content_gives_the_same_bytes_in_every_process(tensors, tmp_path):
    says = {f"key{n}": str(n) for n in range(30)}
    path = tmp_path / "a.safetensors"
    lora_file.write(path, tensors, dict(reversed(says.items())))
    assert path.read_bytes() == lora_file.to_bytes(tensors, says)
    head = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert list(head["__metadata__"]) == sorted(says)
    again = lora_file.read(path)
    assert again.metadata == says
    assert all(torch.equal(again.tensors[key], tensors[key]) for key in tensors)
    assert len(again.tensors) == len(tensors)


def test_weights_that_are_no_numbers_are_not_written(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    lora_file.write(path, tensors, {})
    before = path.read_bytes()
    key = next(iter(tensors))
    tensors[key] = torch.full_like(tensors[key], float("nan"))
    with pytest.raises(lora_file.NonFiniteWeightsError, match=key):
        lora_file.write(path, tensors, {})
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    lora_file.write(path, tensors, {"which": "old"})
    with disk_that_fills() as fill:
        fill()
        with pytest.raises(lora_file.CheckpointWriteError, match="Make room"):
            lora_file.write(path, tensors, {"which": "new"})
    assert lora_file.read(path).metadata == {"which": "old"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_pickles_and_broken_files_are_refused(tensors, tmp_path):
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "disguised.safetensors")
    for name in ("a.pt", "disguised.safetensors"):
        with pytest.raises(lora_file.PickleRefusedError, match="could run any program"):
            lora_file.read(tmp_path / name)
    half = lora_file.to_bytes(tensors, {})[:500]
    (tmp_path / "half.safetensors").write_bytes(half)
    for name in ("half.safetensors", "missing.safetensors"):
        with pytest.raises(lora_file.CheckpointError):
            lora_file.read(tmp_path / name)


def test_a_file_of_another_model_is_refused(tensors, tiny_sdxl):
    pipeline = pipeline_in(tiny_sdxl)
    with pytest.raises(lora_file.CheckpointError, match="has no layer"):
        lora_file.for_diffusers(pipeline, lora_file.LoraFile(tensors, {}))


def test_metadata_says_what_it_is_and_where_it_comes_from(tensors, tmp_path):
    rows = [{"file": "char_char1_seed_966983_scenario_26_01.png", "seed": 966983, "sha256": "ab"}]
    card = LoraCard(
        title="char1",
        architecture="stable-diffusion-v1",
        trigger_phrase="char1 woman",
        resolution=(512, 768),
        thumbnail=b"\x89PNG\r\n",
        dataset="portraits",
        dataset_fingerprint="f" * 64,
        generation=rows,
        buckets={(512, 768): 70},
        steps=700,
        seed=0,
        tags=("character", "portrait"),
    )
    says = metadata(card, LoraSettings(rank=16, alpha=8, rslora=True), tensors)
    path = tmp_path / "a.safetensors"
    lora_file.write(path, tensors, says)
    with safe_open(path, "pt") as file:
        read = file.metadata()
    assert read == says
    must = ("sai_model_spec", "architecture", "implementation", "title", "resolution")
    assert all(read[f"modelspec.{name}"] for name in must)
    assert read["modelspec.sai_model_spec"] == "1.0.1"
    assert read["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert read["modelspec.trigger_phrase"] == "char1 woman"
    assert read["modelspec.resolution"] == "512x768"
    assert read["modelspec.thumbnail"].startswith("data:image/png;base64,")
    assert (read["ss_network_dim"], read["ss_network_alpha"]) == ("16", "32.0")
    assert read["ss_base_model_version"] == "sd_v1"
    assert json.loads(read["ss_network_args"])["rslora"] is True
    assert json.loads(read["ss_bucket_info"])["buckets"]["0"]["resolution"] == [512, 768]
    assert read["ss_seed"] == "0"
    assert json.loads(read["character_curator.generation"]) == rows
    assert read["character_curator.dataset_fingerprint"] == "f" * 64
    # The hash is of the tensors' bytes, as a gallery computes it from the file.
    raw = path.read_bytes()
    content = raw[8 + int.from_bytes(raw[:8], "little") :]
    assert read["sshs_model_hash"] == hashlib.sha256(content).hexdigest()
    assert read["modelspec.hash_sha256"] == "0x" + hashlib.sha256(content).hexdigest()


def test_what_is_not_known_is_left_out():
    says = metadata(CARD, LoraSettings())
    assert all(says.values())
    assert "modelspec.author" not in says
    assert "ss_seed" not in says


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_a_file(kind, tiny_sd15, tmp_path):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, KINDS[kind])
    with torch.no_grad():
        expected = run_unet(unet, unet_inputs())
        file = lora_file.LoraFile(lora_file.tensors_of(adapters, kohya), {})
        shake(adapters, seed=9)
        assert distance(run_unet(unet, unet_inputs()), expected) > 0.01
        lora_file.restore(adapters, file, kohya)
        assert distance(run_unet(unet, unet_inputs()), expected) < 1e-5
    adapters.remove()
    settings = KINDS[kind]
    other = {"rank": 3, "dora": False, "rslora": False}
    smaller = inject({"denoiser": unet}, LoraSettings(**{**vars(settings), **other}))
    word = "rank 4" if settings.kind == "lora" else "other factors"
    with pytest.raises(lora_file.CheckpointError, match=word):
        lora_file.restore(smaller, file, kohya)
    smaller.remove()
    fewer = inject({"denoiser": unet}, LoraSettings(kind=settings.kind))
    with pytest.raises(lora_file.CheckpointError, match="differ in"):
        lora_file.restore(fewer, file, kohya)


@pytest.mark.parametrize("kind", ["lora", "lokr", "loha"])
@pytest.mark.parametrize("alpha", [2.0, 24.0])
def test_a_file_of_another_alpha_does_in_the_adapters_what_it_did(alpha, kind, tiny_sd15):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, LoraSettings(alpha=8.0, kind=kind))
    with torch.no_grad():
        expected = run_unet(unet, unet_inputs())
    file = lora_file.LoraFile(lora_file.tensors_of(adapters, kohya), {})
    adapters.remove()
    other = inject({"denoiser": unet}, LoraSettings(alpha=alpha, kind=kind))
    unet.eval()
    lora_file.restore(other, file, kohya)
    with torch.no_grad():
        assert distance(run_unet(unet, unet_inputs()), expected) < 1e-5
        with other.disabled():
            assert distance(run_unet(unet, unet_inputs()), expected) > 0.01


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("lokr", {"alpha", "lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
        ("lokr, both", {"alpha", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}),
        ("lokr, whole", {"alpha", "lokr_w1", "lokr_w2"}),
        ("loha", {"alpha", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
    ],
)
def test_a_layers_tensors_say_what_it_adds_to_the_weight(kind, ends, tiny_sd15):
    """The file against torch's own products, and against what peft adds."""
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, KINDS[kind])
    file = lora_file.LoraFile(lora_file.tensors_of(adapters, kohya), {})
    assert file.kind == KINDS[kind].kind
    seen = set()
    for part, path, layer in adapters.layers():
        name = kohya(part, path)
        values = file.factors(name)
        seen |= values.keys()
        t = {key: value.double() for key, value in values.items()}
        if kind == "loha":
            product = (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
            divisor = 4
        else:
            first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
            second = t["lokr_w2"] if "lokr_w2" in t else t["lokr_w2_a"] @ t["lokr_w2_b"]
            out = len(layer.weight)
            product = torch.kron(first, second.reshape(out // len(first), -1))
            thin = [key for key in ("lokr_w1_b", "lokr_w2_b") if key in t]
            divisor = len(t[thin[0]]) if thin else float(t["alpha"])
        added = float(t["alpha"]) / divisor * product.reshape(layer.weight.shape)
        torch.testing.assert_close(
            added, layer.get_delta_weight("default").double(), atol=1e-5, rtol=1e-4
        )
    assert ends <= seen
    assert len(file.names) == len(list(adapters.layers()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_says_its_rank_and_whether_it_adds_anything(kind, tiny_sd15):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, KINDS[kind])
    file = lora_file.LoraFile(lora_file.tensors_of(adapters, kohya), {})
    ranks = {file.rank(name) for name in file.names}
    # Small layers' second factors are whole.
    assert ranks <= ({None} if "whole" in kind else {KINDS[kind].rank, None})
    assert ranks != {None} or "whole" in kind
    assert not any(file.is_silent(name) for name in file.names)
    adapters.remove()
    anew = inject({"denoiser": unet}, KINDS[kind])
    file = lora_file.LoraFile(lora_file.tensors_of(anew, kohya), {})
    assert all(file.is_silent(name) for name in file.names)


def test_a_file_of_several_kinds_is_named():
    keys = ("a.lora_down.weight", "a.lora_up.weight", "b.lokr_w1", "b.lokr_w2")
    file = lora_file.LoraFile({key: torch.zeros(1, 1) for key in keys}, {})
    assert file.names == ("a", "b")
    with pytest.raises(lora_file.CheckpointError, match="lokr, lora"):
        _ = file.kind


def test_infinity_is_no_weight(tmp_path):
    with pytest.raises(lora_file.NonFiniteWeightsError, match="'a'"):
        lora_file.write(tmp_path / "a.safetensors", {"a": torch.tensor([float("inf")])}, {})
    assert not list(tmp_path.iterdir())


def test_alpha_keeps_its_digits_in_half_precision(tiny_sd15):
    settings = LoraSettings(alpha=8.0, rank=3, rslora=True)
    adapters = trained({"denoiser": pipeline_in(tiny_sd15).unet}, settings)
    tensors = lora_file.tensors_of(adapters, kohya, dtype=torch.float16)
    for key, tensor in tensors.items():
        assert tensor.dtype == (torch.float32 if key.endswith(".alpha") else torch.float16)
        if key.endswith(".alpha"):
            assert float(tensor) == pytest.approx(8 * 3**0.5, rel=1e-6)


@pytest.mark.parametrize(("error", "rank"), [(1e-5, 3), (0.02, 2), (0.6, 1)])
def test_the_least_rank_within_an_error(error, rank):
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
        for _ in range(2)
    )
    # Cutting after one value loses about 0.45 of the norm, after two 0.009, after three 1e-6.
    matrix = left @ torch.diag(torch.tensor([1, 0.5, 0.01, 1e-6, 0, 0]).double()) @ right
    up, down = low_rank(matrix, error)
    assert (up.shape, down.shape) == ((6, rank), (rank, 6))
    assert (up.double() @ down.double() - matrix).norm() <= (error + 1e-6) * matrix.norm()
