import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator import project
from character_curator.toml_lines import read_tables

ROOT = Path(__file__).parents[2]

GOOD = """\
[plan]
seeds = [1, 2]
takes = 2

[[subjects]]
description = "a woman"

[[scenarios]]
number = 1
name = "park"
prompt = "{description}, park"

[[scenarios]]
number = 2
name = "bar"
prompt = "bar"

[selection]
total = 4

quotas = ["seed=2", "kind=50%"]
"""


def test_defaults_fill_what_is_left_out():
    read = project.parse(GOOD)
    assert read.quality.minimum == 0.74
    assert read.clusters.count == 8
    assert read.subjects[0].name == "char1"
    assert read.selection.quotas == ("seed=2", "kind=50%")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("takes = 2", "takes = 0", 3, "plan.takes"),
        ("takes = 2", "take = 2", 3, "no such key; there are: seeds, takes"),
        ('name = "bar"', "name = 5", 15, "scenarios[2].name"),
        ('prompt = "bar"\n', "", 13, "scenarios[2].prompt: Field required"),
        ("total = 4", 'total = "many"', 19, "selection.total"),
        ('"seed=2"', '"seed of 2"', 21, "it needs a column"),
        ('"kind=50%"', '"kind=150%"', 21, "selection.quotas"),
        ("[plan]", "[plans]", 1, "no such key"),
    ],
)
def test_a_fault_names_its_key_and_line(old, new, line, says):
    with pytest.raises(project.ProjectFileError) as caught:
        project.parse(GOOD.replace(old, new, 1), "p.toml")
    first = [text for text in str(caught.value).splitlines() if says in text]
    assert first, str(caught.value)
    assert first[0].startswith(f"p.toml, line {line}:"), str(caught.value)


def test_all_faults_are_listed_at_once():
    text = GOOD.replace("takes = 2", "takes = 0").replace("total = 4", "total = 0")
    with pytest.raises(project.ProjectFileError) as caught:
        project.parse(text)
    assert "takes" in str(caught.value)
    assert "total" in str(caught.value)


def test_images_come_from_one_place():
    with pytest.raises(project.ProjectFileError, match="either 'source'"):
        project.parse("")
    with pytest.raises(project.ProjectFileError, match="either 'source'"):
        project.parse('source = "x"\n' + GOOD)


def test_not_toml_and_absent_files_say_so(tmp_path):
    with pytest.raises(project.ProjectFileError, match=r"not valid TOML.*line 1"):
        project.parse("a = = 3")
    with pytest.raises(project.ProjectFileError, match="cannot be read"):
        project.read(tmp_path / "absent.toml")


def test_the_mark_that_windows_editors_write_is_no_fault(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert project.read(path) == project.parse(GOOD)
    assert read_tables(path) == project.tables(GOOD)
    path.write_text(GOOD, encoding="utf-16")
    with pytest.raises(project.ProjectFileError, match=r"cannot be read.*UTF-8"):
        project.read(path)


@given(st.lists(st.sampled_from(["a", "b", "c.d"]), min_size=1, max_size=6), st.data())
def test_lines_are_found_in_arrays_of_tables(names, data):
    lines, places, seen = [], [], {}
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        lines += [f"[[{name}]]", "# comment", "key = 1"]
        places.append(([*name.split("."), seen[name], "key"], len(lines)))
    keys, line = data.draw(st.sampled_from(places))
    assert project.line_of("\n".join(lines), keys) == line


def test_requirements_are_the_projects_dependencies_without_pins_of_comfyui():
    declared = re.search(
        r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M
    )
    wanted = [re.match(r'\s*"(.*?)",', line).group(1) for line in declared[1].splitlines()]
    listed = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert [w.replace("'", '"') for w in wanted] == listed
    for shipped in ("torch", "numpy", "pillow", "safetensors", "transformers"):
        assert shipped in listed, "named without any version"


@pytest.mark.parametrize("preset", ["auto", "default", "seed-document", "sdxl"])
def test_a_training_names_a_preset_of_settings_or_of_a_family(preset):
    read = project.parse(f'source = "x"\n[training]\npreset = "{preset}"\nsteps = 3\n')
    settings = read.training.settings()
    assert settings.steps == 3
    assert settings.resolution == (1024 if preset == "sdxl" else 512)


def test_a_preset_that_does_not_exist_is_told_with_its_line():
    with pytest.raises(project.ProjectFileError, match=r"preset.*sdxxl"):
        project.parse('source = "x"\n[training]\npreset = "sdxxl"\n')


PORTFOLIO = GOOD.replace("[[subjects]]", "[portfolio]\n\n[[subjects]]")
SECOND = '\n[[subjects]]\nname = "b"\ndescription = "a man"\n'


def test_a_portfolio_says_of_each_subject_what_it_wants():
    read = project.parse(PORTFOLIO + SECOND + 'total = 9\nquotas = ["seed=3"]\n')
    assert read.portfolio is not None
    assert read.portfolio.margin == 0
    assert [subject.total for subject in read.subjects] == [None, 9]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + SECOND + "total = 9\n", "the subject 'b' has total, which is for a portfolio"),
        (PORTFOLIO + SECOND + 'quotas = ["seed of 2"]\n', "it needs a column"),
        (PORTFOLIO + SECOND + 'trigger = "char1"\n', "have the same trigger word 'char1'"),
        (PORTFOLIO + SECOND.replace('"b"', '"CHAR1"'), "would be folders of the same name"),
        (PORTFOLIO + SECOND.replace('"b"', '"combined"'), "the combined dataset"),
        (PORTFOLIO + "[training]\nrank = 4\n", "take [training] out"),
        (PORTFOLIO + '[faces]\nreferences = ["a.png"]\n', "'references' is a key of each"),
        (PORTFOLIO + '[dataset]\ntrigger = "x"\n', "a trigger of its own"),
        ('source = "x"\n' + PORTFOLIO, "'source' is a key of each"),
        ("[portfolio]\n", "at least one"),
        ("[portfolio]\n" + SECOND, "has no source, and there is no [plan]"),
    ],
)
def test_a_portfolio_that_cannot_be_says_why(text, says):
    with pytest.raises(project.ProjectFileError) as caught:
        project.parse(text)
    assert says in str(caught.value)
