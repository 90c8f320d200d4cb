"""A version of a dataset is made again from its recipe, in another place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from character_curator import cli, pipeline, project
from character_curator.dataset import export, find_version
from character_curator.verification.remaking import RecipeError, remake
from tests.support.images import make_images
from tests.support.small_run import PROJECT


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of the run, its dataset in a second version of more images."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    more = PROJECT.replace("total = 4", "total = 5").replace('quotas = ["seed=2"]', "quotas = []")
    assert pipeline.run(project.parse(more), folder).exported.version == 2
    return folder / "out"


@pytest.mark.parametrize(
    "fresh", [pytest.param(True, marks=pytest.mark.slow, id="images too"), False]
)
def test_every_file_comes_again(run, tmp_path, capsys, fresh):
    if not fresh:  # as a run that was killed after it had generated
        shutil.copytree(run / "raw", tmp_path / "again.work" / "raw")
    wanted = ["reproduce", str(run / "dataset"), "--version", "1"]
    wanted += ["--output", str(tmp_path / "again"), "--json", "--quiet"]
    assert cli.main(wanted) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["identical"]
    first = find_version(1, run / "dataset")
    assert said["same"] == len(first.digests)
    assert find_version(tmp_path / "again").fingerprint == first.fingerprint
    # The folder of a version that is kept names it, too.
    wanted[1:4] = [str(first.folder)]
    assert cli.main(wanted) == 0


def test_what_does_not_come_again_is_named(run, tmp_path):
    shutil.copytree(run / "raw", tmp_path / "again.work" / "raw")
    recipe = run / "dataset" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("total = 5", "total = 4"))
    made = remake(find_version("latest", run / "dataset"), tmp_path / "again")
    assert not made.identical
    assert {"recipe.toml", "report.html", "README.md"} <= {*made.changed}
    assert len([name for name in made.missing if name.endswith(".png")]) == 1
    assert made.tools == ()


def test_a_graphs_recipe_and_the_dataset_itself_are_refused(run, tmp_path):
    place = export(
        make_images(tmp_path / "raw", 6), tmp_path / "set", name="x", recipe={"plan": {"takes": 1}}
    ).folder
    with pytest.raises(RecipeError, match="a graph wrote it"):
        remake(find_version(place), tmp_path / "again")
    with pytest.raises(RecipeError, match="is the dataset itself"):
        remake(find_version(run / "dataset"), run / "dataset")
    assert cli.main(["reproduce", str(place), "--quiet"]) == 2
