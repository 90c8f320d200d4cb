"""What a later stage lacks is said before the first image is generated."""

import pytest

from character_curator import pipeline, project
from character_curator.analysis.embeddings import ClipModelError
from character_curator.analysis.face_packs import FacePackError
from character_curator.analysis.face_quality import UnknownLooksError
from character_curator.analysis.face_validation import ReferenceFaceError
from character_curator.captions.captioners import CaptionerNotFoundError
from character_curator.errors import CuratorError
from character_curator.generation.models import ModelNotFoundError
from character_curator.portfolio.making import make_portfolio
from character_curator.project import ProjectFileError
from character_curator.training.job import OutputNameError
from tests.support.small_portfolio import ADA, BEN, HEAD
from tests.support.small_run import PROJECT
from tests.support.tiny_analysis import empty_place, needs_miniature_faces, write_images

LACKS = {
    "an absent reference": ({"faces": {"references": ["nobody.png"]}}, CuratorError),
    "a reference without a face": ({"faces": {"references": ["empty.png"]}}, ReferenceFaceError),
    "no face pack": ({"faces": {"pack": "packs/none"}}, FacePackError),
    "no calibrated quality": ({"quality": {"formula": "calibrated"}}, UnknownLooksError),
    "no CLIP model": ({"clip": {"model": "ViT-X-99"}}, ClipModelError),
    "no captioner": ({"captions": {"model": "/models/none"}}, CaptionerNotFoundError),
    "no base": ({"training": {"base": "/models/none.safetensors"}}, ModelNotFoundError),
    "no LoRA file": ({"training": {"file": "char1.ckpt"}}, OutputNameError),
    **{
        f"no folder for {key}": ({"training": {key: "elsewhere"}}, ProjectFileError)
        for key in ("validation", "prior", "control_images", "masks")
    },
}


def changed(text, sections):
    """Return a project with other values in some sections."""
    parsed = project.parse(text, "small.toml").model_dump(mode="json", exclude_none=True)
    for name, values in sections.items():
        parsed[name] = {**parsed.get(name, {}), **values}
    return project.from_mapping(parsed, "small.toml")


@needs_miniature_faces
@pytest.mark.parametrize("lack", LACKS)
def test_nothing_is_generated_for_a_project_that_lacks_something(tmp_path, lack):
    write_images(tmp_path, {"empty.png": empty_place(1)})
    sections, kind = LACKS[lack]
    with pytest.raises(kind):
        pipeline.run(changed(PROJECT, sections), tmp_path)
    assert not (tmp_path / "out" / "raw").exists()


@needs_miniature_faces
def test_of_a_portfolio_every_subject_is_looked_at_first(tmp_path):
    ben = BEN + 'references = ["nobody.png"]\n'
    with pytest.raises(CuratorError, match=r"(?s)ben.*nobody\.png"):
        make_portfolio(project.parse(HEAD + ADA + ben, "pair.toml"), tmp_path)
    assert not list(tmp_path.rglob("*.png"))
