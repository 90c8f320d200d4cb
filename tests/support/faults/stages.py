"""The commands that are attacked, each with what must be there before it, as small as they go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import small_assets, small_augmentation
from tests.support.commands import CURATE, draw_people
from tests.support.faults.warm import Warm
from tests.support.small_portfolio import ADA, BEN, HEAD
from tests.support.small_run import EVERYTHING_PASSES
from tests.support.tiny_captioners import tiny_tagger

TINY = ("rank=2", "batch_size=2", "learning_rate=0.01", "validation_timesteps=1", "resolution=64",
        "bucket_step=32")  # fmt: skip
GENERATED = (
    """\
[project]
name = "small"
output = "out"

[model]
path = "miniature"
steps = 4
batch_size = 2

[plan]
seeds = [966983, 966984]
template = "portrait of a {description}, {scenario}"
caption = "portrait of {trigger} {class_word}, {scenario}"

[[subjects]]
name = "char1"
trigger = "char1"
class_word = "woman"
description = "gentle freckled woman, wavy red hair, green eyes, fair skin"

[[originals]]
number = 1
name = "studio"
prompt = "gray t-shirt, neutral background, studio lighting, frontal view, close-up"

[[scenarios]]
number = 26
name = "park"
prompt = "green hoodie, warm smile, park background, soft daylight, frontal view, close-up"

"""
    + EVERYTHING_PASSES
    + """[selection]
total = 3

[training]
targets = "attention"
epochs = 2
save_every = 1
checkpoint_every = 1
sample_every = 1
validation_share = 0.34
prior_pictures = 2
prompts = ["portrait of char1 woman, park"]
"""
    + "".join(f"{option}\n" for option in TINY)
)

COMPARED = """\
source = "in"

[project]
name = "mia"
output = "out"

[model]
path = "miniature"
steps = 2
batch_size = 2
width = 64
height = 64

[[subjects]]
name = "mia"
trigger = "mia"
class_word = "woman"
description = "freckled woman"

[faces]
pack = "miniature"
minimum_confidence = 0.0
minimum_share = 0.0
minimum_side = 0.0

[quality]
minimum = 0.0

[clip]
model = "miniature"

[clusters]
count = 2

[selection]
total = 4

[training]
targets = "attention"
save_every = 1
prior_pictures = 2
"""

WAVES = GENERATED.replace(
    "seeds = [966983, 966984]", "seeds = [966983, 966984]\ntakes = 3"
).replace("[selection]\n", "[waves]\nsize = 4\nimages = 8\n\n[selection]\n")
WAVES = WAVES[: WAVES.index("[training]")]

TWO_PEOPLE = small_augmentation.of_two("in/")

_SETS = [part for option in TINY for part in ("--set", option)]
_TRAIN = [
    "train", "out", "--base", "miniature", "--output", "lora/char.safetensors",
    "--trigger", "char1", "--rank", 2, "--targets", "attention", "--batch-size", 2,
    "--learning-rate", 0.01, "--resolution", 64, "--bucket-step", 32, "--epochs", 2,
    "--validation-share", 0.34, "--validation-timesteps", 1, "--save-every", 1,
    "--checkpoint-every", 1, "--sample-every", 1, "--sample-steps", 2,
    "--prompt", "char1 in a park",
]  # fmt: skip
_CURATE = ["curate", "in", "--output", "out", "--trigger", "char1", *CURATE]


@dataclass(frozen=True)
class Stage:
    """A command, and what must be there before it.

    Attributes:
        name: What it is called.
        command: What is run; paths are relative to the folder.
        files: Writes what the user has.
        before: Commands that have been run before, to their end.
        dataset: Folders in which a reader finds a whole dataset or none, at any moment.
        workers: How many processes of ours share the work.
    """

    name: str
    command: tuple
    files: Callable[[Path], None]
    before: tuple[tuple, ...] = ()
    dataset: tuple[str, ...] = field(default=("out",))
    workers: int = 1

    def prepare(self, warm: Warm, folder: Path) -> None:
        """Make the folder as it is when the command begins."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.files(folder)
        for command in self.before:
            ended = warm.run(command, folder)
            assert not ended.code, ended.told


def _drawn(folder: Path) -> None:
    draw_people(folder / "in", 7)


def _many_drawn(folder: Path) -> None:
    draw_people(folder / "in", 33)  # three chunks of work


def _packed(folder: Path) -> None:
    _drawn(folder)
    shutil.make_archive(str(folder / "mine"), "zip", folder / "in")
    shutil.rmtree(folder / "in")


def _written(text: str, drawn: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "project.toml").write_text(text)
        if drawn:
            _drawn(folder)

    return write


def _drawn_and_tagger(folder: Path) -> None:
    _drawn(folder)
    tiny_tagger(folder / "tagger")


def _photographs(folder: Path) -> None:
    (folder / "project.toml").write_text(small_augmentation.PROJECT)
    small_augmentation.draw(folder / "photos", 6)


def _two_people(folder: Path) -> None:
    (folder / "project.toml").write_text(TWO_PEOPLE)
    for number, name in enumerate(("ada", "bea")):
        small_augmentation.draw(folder / "in" / name, 4, 100 + number, number)
        small_augmentation.draw(folder / "in" / f"{name}_unseen", 3, 100 + number, 10 + number)


def _assets(folder: Path) -> None:
    small_assets.write_project(folder)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("run", ("run", "project.toml"), _written(GENERATED), dataset=("out/dataset",)),
        # Another dataset takes the place of the one before, which is kept.
        Stage("curate", (*_CURATE, "--total", 4), _drawn, (tuple(_CURATE),)),
        Stage("zip", ("curate", "mine.zip", *_CURATE[2:], "--total", 4), _packed),
        Stage("train", tuple(_TRAIN), _drawn, ((*_CURATE, "--total", 4),)),
        Stage(
            "evaluate",
            (
                "evaluate", "lora/char.safetensors", "--dataset", "out", "--base", "miniature",
                "--count", 3, "--steps", 2, "--width", 64, "--height", 64, "--batch-size", 2,
                "--identity-threshold", 0.5,
            ),
            _drawn,
            ((*_CURATE, "--total", 4), tuple(_TRAIN)),
        ),
        Stage(
            "before-after",
            (
                "experiment", "before-after", "project.toml", "--steps", 3, "--repeats", 1,
                "--ablation", 0, "--pictures", 2, "--validation", 2, "--validate-steps", 2,
                "--identity-threshold", 0.5, "--no-leakage", *_SETS,
            ),
            _written(COMPARED, drawn=True),
            dataset=(),
        ),
        Stage(
            "portfolio",
            ("portfolio", "project.toml"),
            _written(HEAD + ADA + BEN),
            dataset=("out/portfolio/ada", "out/portfolio/ben", "out/portfolio/combined"),
        ),
        Stage("generate", ("generate", "project.toml"), _written(GENERATED), dataset=()),
        Stage("waves", ("run", "project.toml"), _written(WAVES), dataset=("out/dataset",)),
        Stage(
            "caption",
            ("caption", "out", "--model", "tagger", "--existing", "replace"),
            _drawn_and_tagger,
            ((*_CURATE, "--total", 4),),
        ),
        Stage(
            "captions",
            ("captions", "edit", "out", "--add", "blue sky", "--add-front", "portrait"),
            _drawn,
            ((*_CURATE, "--total", 4),),
        ),
        Stage(
            "restore",
            ("restore", "out", "1"),
            _drawn,
            (tuple(_CURATE), (*_CURATE, "--total", 4)),
        ),
        Stage(
            "augment",
            ("augment", "project.toml"),
            _photographs,
            dataset=("out/augmentation/real", "out/augmentation/combined"),
        ),
        Stage(
            "experiment",
            (
                "experiment", "augmentation", "project.toml", "--repeats", 1, "--real", 3,
                "--unseen", 2, "--synthetic", 4,
            ),
            _two_people,
            dataset=(),
        ),
        Stage(
            "workers",
            (*_CURATE, "--total", 4, "--workers", 2),
            _many_drawn,
            workers=2,
        ),
        Stage(
            "generate-workers",
            ("generate", "project.toml", "--workers", 2),
            _written(GENERATED),
            dataset=(),
            workers=2,
        ),
        Stage("assets", ("assets", "hero.toml"), _assets, dataset=()),
    )
}  # fmt: skip
