"""Sets of several subjects as one: whose images are whose, and where they lie."""

from pathlib import Path

import pytest
from PIL import Image

from character_curator.imageset import ImageSet
from character_curator.portfolio.joining import joined, joined_as_selected


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "two/deeper"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (i * 80, 0, 0)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_images_of_several_folders_are_found_again(folders):
    one, two = (ImageSet.from_folder(folders / name) for name in ("one", "two/deeper"))
    both = joined([one, two])
    assert both.root == folders.resolve()
    assert [path.resolve() for path in both.paths()] == [
        path.resolve() for images in (one, two) for path in images.paths()
    ]
    assert all(not Path(path).is_absolute() for path in both.table["path"])


def test_sources_name_the_subject_and_nothing_above(folders):
    rows = [{"path": "0.png", "subject": name} for name in ("ada", "ben")]
    sets = [
        ImageSet.from_rows([row], folders / name)
        for row, name in zip(rows, ("one", "two/deeper"), strict=True)
    ]
    assert joined(sets).table["source"].to_list() == ["ada/0.png", "ben/0.png"]


def test_sets_of_one_folder_stay_as_they_are_and_columns_fill_up():
    first = ImageSet.from_rows([{"path": "a.png", "quality": 0.9}], Path("raw"))
    second = ImageSet.from_rows([{"path": "b.png"}], Path("raw"))
    both = joined([first, second])
    assert both.table["path"].to_list() == ["a.png", "b.png"]
    assert both.table["quality"].to_list() == [0.9, None]
    assert "source" not in both.table.columns


def test_what_each_set_has_chosen_stays_chosen():
    chosen = [
        {"path": "a.png", "selected": True, "cluster": 1},
        {"path": "b.png", "selected": False},
    ]
    first = ImageSet.from_rows(chosen, Path("raw"))
    rows = [{"path": "c.png"}, {"path": "d.png", "rejection": "no_face"}]
    second = ImageSet.from_rows(rows, Path("raw"))
    both = joined_as_selected([first, second]).table
    assert both["selected"].to_list() == [True, False, True, False]
    assert "cluster" not in both.columns
    assert "selected" not in joined_as_selected([second, second]).table.columns
