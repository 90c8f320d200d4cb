"""A setting is declared once: options, keys and help are what the models' fields say."""

import pytest

from character_curator import cli, project
from character_curator.options import option, options
from character_curator.training import TrainingSettings

OPTIONS = options(TrainingSettings)
LINE = ["train", "set", "--base", "x", "--output", "y.safetensors"]


def help_of(capsys, name):
    with pytest.raises(SystemExit):
        cli.parser().parse_args([name, "--help"])
    return " ".join(capsys.readouterr().out.split())


def another(described):
    """A value that the field takes, other than its default."""
    if described.kind == "flag":
        return not described.default
    if described.kind == "choice":
        return next(choice for choice in described.choices if choice != described.default)
    if described.kind == "texts":
        return "full"
    if described.kind == "numbers":
        return (0.25, 0.5)
    if described.kind == "wholes":
        return (512, 768)
    if described.kind == "text":
        return "words"
    return 3 if described.kind == "whole" else 0.375


@pytest.mark.parametrize("described", OPTIONS, ids=lambda described: described.name)
def test_a_field_is_an_option_with_its_sentence_and_default_in_the_help(
    capsys, monkeypatch, described
):
    from character_curator.cli.training import settings_of

    monkeypatch.setenv("COLUMNS", "500")
    assert described.text.endswith(".")
    name = f"--{described.name.replace('_', '-')}"
    shown = described.default
    if shown is None or described.kind == "flag":
        shown = str(shown).lower()
    assert f"{described.text} (default {shown})" in help_of(capsys, "train")
    value = another(described)
    words = [] if described.kind == "flag" else [str(part) for part in (
        value if isinstance(value, tuple) else (value,)
    )]  # fmt: skip
    given = settings_of(cli.parser().parse_args([*LINE, name, *words]))
    assert given == TrainingSettings().replace(**{described.name: value})
    assert getattr(given, described.name) == value


@pytest.mark.parametrize("described", OPTIONS, ids=lambda described: described.name)
def test_a_field_is_a_key_of_the_project_file(described):
    value = another(described)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    text = text.replace("(", "[").replace(")", "]")
    read = project.parse(f'source = "x"\n[training]\n{described.name} = {text}\n')
    assert getattr(read.training.settings(), described.name) == value


@pytest.mark.parametrize("name", ["faces", "quality", "clip", "clusters", "selection", "dataset"])
def test_every_key_of_a_section_says_what_it_is(name):
    section = type(getattr(project.parse('source = "x"'), name))
    for described in options(section):
        assert described.text.endswith("."), described.name


def test_what_is_allowed_is_said_in_words():
    allowed = {
        name: option(TrainingSettings, name).allowed for name in TrainingSettings.model_fields
    }
    assert allowed["rank"] == "give a whole number, from 1 to 131072"
    assert allowed["alpha"] == "give a number above 0"
    assert allowed["dropout"] == "give a number, from 0 to below 1"
    assert allowed["ema_decay"] == "give a number, from 0 to 1"
    assert allowed["crop"] == "choose one of centre, face"
    assert allowed["dora"] == "say true or false"
    assert allowed["resolutions"] == "give whole numbers, 1 or more"
    assert allowed["betas"] == "give two numbers, from 0 to below 1"


def test_a_number_stays_as_it_was_given():
    made = TrainingSettings(alpha=8, learning_rate=1e-3)
    assert repr(made.to_mapping()["alpha"]) == "8"
    assert repr(TrainingSettings().to_mapping()["alpha"]) == "16.0"
    assert made == made.replace()
    assert hash(made) == hash(made.replace())


def test_curate_takes_its_defaults_from_the_project_file(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    given = cli.parser().parse_args(["curate", "folder", "--output", "set"])
    sections = project.parse('source = "x"')
    assert given.min_quality == sections.quality.minimum == 0.74
    assert given.clusters == sections.clusters.count
    assert given.total == sections.selection.total
    assert (given.faces, given.clip) == (sections.faces.pack, sections.clip.model)
    assert option(type(sections.quality), "minimum").text in help_of(capsys, "curate")
