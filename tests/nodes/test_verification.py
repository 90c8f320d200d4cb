"""Verify in a real ComfyUI: what its wires have made comes again; no name signs by itself."""

import json

import pytest

from tests.support.comfyui.graphs import curation, generation, node


def verification(**changes):
    widgets = {
        "dataset": ["14", 0], "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2],
        "lora_name": "", "folder": "verified/images", "regenerate": -1, "samples": 1, "steps": 2,
        "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "width": 128, "height": 128,
        "pack": "miniature", "clip_model": "miniature",
    }  # fmt: skip
    given = {**widgets, **changes}
    return node("Verify", **{key: value for key, value in given.items() if value is not None})


@pytest.fixture(scope="module")
def verified(server):
    graph = generation("verified/raw") | curation(["3", 0], "verified/dataset")
    graph["20"] = verification()
    return graph, server.run(graph, 900)


def lines(server):
    path = server.base / "output" / "verified" / "dataset" / "verification.json"
    return {line["key"]: line for line in json.loads(path.read_text())["lines"]}


def test_images_of_the_same_wires_come_again_byte_for_byte(server, verified):
    _, run = verified
    text = run.outputs["20"]["text"][0]
    assert text.startswith("NOT READY FOR PRODUCTION")
    found = lines(server)
    assert found["identical"]["figures"] == {"identical": 3, "images": 3}
    for key in ("images", "metadata", "parameters", "mapping", "prompts", "version", "seed_store",
                "automated", "regenerate", "identical"):  # fmt: skip
        assert found[key]["status"] == "holds", found[key]
    assert found["file"]["status"] == "not checked"
    assert "approved_fingerprint" in text


def test_other_wires_are_told(server, verified):
    graph, _ = verified
    server.run({**graph, "20": verification(model=None, clip=None, vae=None)})
    assert lines(server)["identical"]["status"] == "not checked"


def test_verifying_exports_nothing_anew(server, verified):
    graph, _ = verified
    run = server.run(graph, 600)
    assert set(graph) - run.cached == {"20"}


def test_a_name_alone_signs_nothing_and_a_fingerprint_does(server, verified):
    graph, run = verified
    text = run.outputs["20"]["text"][0]
    fingerprint = text.split(" into approved_fingerprint")[0].split()[-1]
    assert len(fingerprint) == 64
    for wrong in ("", "0" * 64):
        signed = {"approved_by": "Jane", "approved_fingerprint": wrong, "regenerate": 0}
        said = server.run({**graph, "20": verification(**signed)}).outputs["20"]["text"][0]
        assert lines(server)["approval"]["status"] == "fails"
        assert ("Not signed" in said) is bool(wrong)
    signed = {"approved_by": "Jane", "approved_fingerprint": fingerprint, "regenerate": 0}
    server.run({**graph, "20": verification(**signed)})
    assert lines(server)["approval"]["status"] == "holds"
    assert "Jane" in lines(server)["approval"]["found"]


def test_a_lora_needs_the_wires(server, verified):
    from tests.support.comfyui.random_lora import random_lora

    graph, _ = verified
    wanted = verification(lora_name=random_lora(server, 64), model=None)
    run = server.wait(server.queue({**graph, "20": wanted}))
    assert "Wire 'model'" in run.error
