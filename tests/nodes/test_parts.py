"""Parts of the nodes that need no ComfyUI."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.comfyui.pack import core, part
from tests.support.images import drawing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("text", ["a", "a/b", " a ", "./a", "a/../b", ""])
def test_paths_inside_are_taken(tmp_path, text):
    assert part("ui.paths").contained(text, tmp_path, [tmp_path]).is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize(
    "text", ["..", "../x", "a/../../x", "/etc/passwd", "/", "a\0b", "../base-sibling"]
)
def test_paths_outside_are_refused(tmp_path, text):
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "base-sibling").mkdir()
    paths = part("ui.paths")
    with pytest.raises(paths.PathNotAllowedError, match="outside the folders"):
        paths.contained(text, base, [base])


@given(text=st.text(max_size=40))
def test_whatever_is_taken_lies_inside(text):
    paths = part("ui.paths")
    base = Path("/tmp/no-such-folder/base")
    try:
        found = paths.contained(text, base, [base])
    except paths.PathNotAllowedError:
        return
    assert found.is_relative_to(base.resolve())


def test_links_are_resolved_before_the_check(tmp_path):
    base, outside = tmp_path / "base", tmp_path / "outside"
    base.mkdir()
    outside.mkdir()
    (base / "link").symlink_to(outside)
    paths = part("ui.paths")
    with pytest.raises(paths.PathNotAllowedError):
        paths.contained("link/x", base, [base])
    assert paths.contained("link/x", base, [base, outside]) == (outside / "x").resolve()


def test_the_state_of_files_is_whole_before_and_after_they_are_made(tmp_path):
    state = part("ui.disk_state").DiskState()
    before = state.fingerprint(tmp_path)
    made = [tmp_path / name for name in ("a.png", "b.png")]
    for path in made:
        path.write_text("x")
    state.record(tmp_path, made)
    assert state.fingerprint(tmp_path) == before


def test_the_state_of_files_changes_once_when_one_is_gone_and_stays_when_it_is_made_again(tmp_path):
    state = part("ui.disk_state").DiskState()
    made = [tmp_path / name for name in ("a.png", "b.png")]
    for path in made:
        path.write_text("x")
    state.record(tmp_path, made)
    whole = state.fingerprint(tmp_path)
    made[0].unlink()
    missing = state.fingerprint(tmp_path)
    assert missing != whole
    made[0].write_text("x")
    state.record(tmp_path, made)
    assert state.fingerprint(tmp_path) == missing
    made[1].write_text("changed")
    assert state.fingerprint(tmp_path) != missing


def test_a_image_that_no_plan_has_any_more_is_forgotten(tmp_path):
    state = part("ui.disk_state").DiskState()
    one, two = tmp_path / "a.png", tmp_path / "b.png"
    one.write_text("x")
    two.write_text("x")
    state.record(tmp_path, [one, two])
    two.unlink()
    answered = state.fingerprint(tmp_path)
    state.record(tmp_path, [one])
    assert state.fingerprint(tmp_path) == answered


def test_files_that_a_node_replaces_do_not_make_it_run_twice(tmp_path):
    state = part("ui.disk_state").DiskState()
    path = tmp_path / "a.png"
    for content in ("x", "longer"):
        answered = state.fingerprint(tmp_path)
        path.write_text(content)
        state.record(tmp_path, [path])
        assert state.fingerprint(tmp_path) == answered


def test_missing_libraries_are_named_with_what_to_install():
    missing = part("ui.libraries").missing_libraries
    assert missing(("json", "numpy")) is None
    assert "pip install no-such-library" in missing(("json", "no-such-library"))


def test_the_graph_of_a_image_holds_what_leads_to_its_wires_and_nothing_else():
    graph = part("comfy.stock_graph")
    prompt = {
        "7": {"class_type": "Loader", "inputs": {"ckpt_name": "a.safetensors"}},
        "3": {"class_type": "Lora", "inputs": {"model": ["7", 0], "clip": ["7", 1]}},
        "9": {"class_type": "Generate", "inputs": {"model": ["3", 0], "plan": ["8", 0]}},
        "8": {"class_type": "Plan", "inputs": {}},
    }
    wires = graph.Wires(["3", 0], ["7", 2], ["3", 1], None, None)
    sampling = graph.Sampling("euler", "normal", 20, 7.0, 640, 512)
    made = graph.image_graph(
        prompt, wires, sampling, noise_seed=2**52, positive="yes", negative="no", name="x"
    )
    assert [node["class_type"] for node in made.values()] == [
        "Loader", "Lora", "CLIPTextEncode", "CLIPTextEncode", "EmptyLatentImage", "KSampler",
        "VAEDecode", "SaveImage",
    ]  # fmt: skip
    sampler = made["6"]["inputs"]
    assert (sampler["seed"], sampler["model"]) == (2**52, ["2", 0])
    assert [made[sampler[end][0]]["inputs"]["text"] for end in ("positive", "negative")] == [
        "yes", "no",
    ]  # fmt: skip
    assert made["7"]["inputs"]["vae"] == ["1", 2]


def test_the_canvas_form_has_the_same_wires_and_widgets():
    graph = part("comfy.stock_graph")
    definitions = {
        "Loader": ({"required": {"name": (["a", "b"],)}}, ["MODEL"], ["MODEL"]),
        "Sampler": (
            {
                "required": {
                    "model": ("MODEL", {}),
                    "seed": ("INT", {"default": 0}),
                    "mode": ("COMBO", {"options": ["x", "y"]}),
                },
                "optional": {"mask": ("MASK",)},
            },
            ["LATENT"],
            ["latent"],
        ),
    }
    made = graph.canvas_graph(
        {
            "1": {"class_type": "Loader", "inputs": {"name": "b"}},
            "2": {"class_type": "Sampler", "inputs": {"model": ["1", 0], "seed": 5, "mode": "y"}},
        },
        definitions.__getitem__,
    )
    loader, sampler = made["nodes"]
    assert loader["widgets_values"] == ["b"]
    assert sampler["widgets_values"] == [5, "fixed", "y"]
    assert made["links"] == [[1, 1, 0, 2, 0, "MODEL"]]
    assert loader["outputs"][0]["links"] == [1]
    assert sampler["inputs"] == [
        {"name": "model", "type": "MODEL", "link": 1},
        {"name": "mask", "type": "MASK", "link": None},
    ]


def test_the_identity_of_a_wire_follows_its_graph_but_not_its_numbers():
    identity = part("comfy.identity").graph_identity

    def graph(number, name="a", extra=None):
        return {
            number: {"class_type": "Loader", "inputs": {"ckpt_name": name}},
            "9": {"class_type": "Lora", "inputs": {"model": [number, 0], **(extra or {})}},
        }

    first = identity(graph("1"), ["9", 0])
    assert identity(graph("5"), ["9", 0]) == first
    assert identity(graph("1", "b"), ["9", 0]) != first
    assert identity(graph("1", extra={"strength": 0.5}), ["9", 0]) != first


def test_the_identity_of_a_wire_behind_long_and_many_ways():
    """A model merged with itself sixty times, and three thousand LoRAs in a row: at once."""
    identity = part("comfy.identity").graph_identity
    merged = {"0": {"class_type": "Loader", "inputs": {}}}
    row = dict(merged)
    for n in range(1, 61):
        both = {"model1": [str(n - 1), 0], "model2": [str(n - 1), 0]}
        merged[str(n)] = {"class_type": "Merge", "inputs": both}
    for n in range(1, 3001):
        row[str(n)] = {"class_type": "Lora", "inputs": {"model": [str(n - 1), 0]}}
    assert len({identity(merged, ["60", 0]), identity(row, ["3000", 0])}) == 2
    merged["0"]["inputs"] = {"model": ["60", 0]}
    assert identity(merged, ["60", 0])  # a circle, which ComfyUI does not run
    assert not part("comfy.identity").is_link(["two", "texts"])
    known = {"1": {"class_type": "Loader", "inputs": {"ckpt_name": "a"}}}
    text = json.dumps(["Loader", {"ckpt_name": "a"}, 0])
    assert identity(known, ["1", 0]) == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_sees_values_shapes_and_kinds():
    import torch

    digest = part("comfy.identity").digest
    weights = {"a": torch.arange(5000.0), "b": [torch.ones(3), 1.0]}
    same = {"b": [torch.ones(3), 1.0], "a": torch.arange(5000.0)}
    assert digest(weights) == digest(same)
    for other in (
        {**weights, "a": torch.arange(5000.0) * 1.001},
        {**weights, "a": torch.arange(5000.0).reshape(50, 100)},
        {**weights, "a": torch.arange(5000.0).double()},
        {**weights, "b": [torch.ones(3), 2.0]},
        {"a": weights["a"]},
    ):
        assert digest(other) != digest(weights)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("7", (7,)), ("1-3, 42", (1, 2, 3, 42)), ("5 6\n7", (5, 6, 7)), ("1 - 2", (1, 2)), ("", ())],
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert part("plan.texts").seeds_of(text) == seeds


@pytest.mark.parametrize(
    "text", ["x", "3-1", "1-999999999", "-5", "1-60000 " * 2, "x" * 90_000, "9" * 20]
)
def test_other_seeds_are_refused(text):
    texts = part("plan.texts")
    with pytest.raises(texts.SeedsError, match="neither a number nor a range") as caught:
        texts.seeds_of(text)
    assert len(str(caught.value)) < 500


def test_lines_of_scenarios_are_bounded_and_the_error_says_which():
    texts, lines = part("plan.texts"), part("ui.lines")
    with pytest.raises(lines.LinesError, match="Line 3 of 'originals' has 10,001 letters"):
        texts.scenarios_of("one\n\n" + "x" * 10_001, "originals")
    with pytest.raises(lines.LinesError, match="more than 10,000 lines: line 10002 is one too"):
        texts.scenarios_of("\n" + "one\n" * 10_001)
    assert len(texts.scenarios_of("one\n" * 10_000)) == 10_000


def test_prompts_of_samples_are_bounded():
    settings, lines = part("train.settings"), part("ui.lines")
    with pytest.raises(lines.LinesError, match="'sample_prompts' has more than 100 lines"):
        settings.sample_settings("one\n" * 101, None)


def test_scenarios_are_one_a_line():
    text = "red hoodie, park\n\n# no\nparty | dress\na | b | c | d"
    found = part("plan.texts").scenarios_of(text)
    assert [(s.number, s.category, s.name, s.prompt) for s in found] == [
        (1, "", "red hoodie", "red hoodie, park"),
        (2, "", "party", "dress"),
        (3, "a", "b", "c | d"),
    ]


@pytest.mark.parametrize(
    ("which", "paths"),
    [
        ("all", "abcde"),
        ("accepted", "ab"),
        ("rejected", "cde"),
        ("rejected: no_face", "d"),
        ("selected", "a"),
    ],
)
def test_images_are_taken_by_what_became_of_them(which, paths):
    rows = [
        {"path": path, "rejection": rejection, "selected": selected}
        for path, rejection, selected in (
            ("a", None, True), ("b", None, None), ("c", "quota", True), ("d", "no_face", False),
            ("e", "low_quality", False),
        )
    ]  # fmt: skip
    images = core("imageset").ImageSet.from_rows(rows, Path())
    assert "".join(part("curate.filters").chosen(images, which).table["path"]) == paths


@pytest.fixture
def half_damaged(tmp_path):
    """Ten images of which the best is cut off, so that it has a header and no pixels."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        drawing(number).save(folder / f"{number}.jpg", quality=95)
    whole = (folder / "0.jpg").read_bytes()
    (folder / "0.jpg").write_bytes(whole[: len(whole) // 2])
    images = core("imageset").ImageSet.from_folder(folder)
    return images.with_columns(pl.Series("quality", [1 - n / 20 for n in range(10)]))


def test_a_damaged_image_is_left_out_at_the_export_and_said(half_damaged, tmp_path):
    export, select = core("dataset").export, core("selection").select
    chosen = select(half_damaged, 4)
    assert "0.jpg" in chosen.selected.table["path"].to_list()

    def write(images, selection):
        return export(images, tmp_path / "out", name="x", selection=selection, report=False)

    written = part("export.damaged_images").written
    made, said = written(write, chosen.images, chosen, redo=True)
    assert made.images == 4
    assert len(said) == 1
    assert "0.jpg" in said[0]
    assert "damaged" in said[0]
    changed = core("dataset.images").UnreadableSourcesError
    with pytest.raises(changed, match="Connect BalancedSelect's"):
        written(write, chosen.images, None, redo=True)
    with pytest.raises(changed, match="masks"):
        written(write, chosen.images, chosen, redo=False)
