"""Commands from nothing to a curated dataset: demo, run, generate, curate, reproduce."""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import atomic, project
from .. import project_sections as sections
from ..counts import how_many
from ..errors import CuratorError
from ..naming import table_name
from ..options import option
from ..reading.kinds import FORMATS
from .engines import add_engine_options, engine_given, with_engine
from .outcome import show_outcome
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, clip_of, escape, progress_on, said, say
from .places import dataset_path

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


_CROP_OPTIONS = {
    "--crop": "framing", "--crop-aspect": "aspect", "--crop-impossible": "impossible",
    "--crop-min-side": "minimum_side", "--crop-upscale": "upscale",
}  # fmt: skip
"""Options of the command line, and the fields of the project's section [crop] that they set."""

_BLEMISH_OPTIONS = {
    "--max-bars": "bars", "--cut-bars": "cut_bars", "--grids-from": "grids_from",
    "--max-text": "text", "--text-models": "text_models",
}  # fmt: skip
"""The same of the section [blemishes]."""

DEMO = Path(__file__).parents[1] / "demo.toml"


class DatasetPlaceError(CuratorError):
    """A dataset is to be made where there can be none."""

    def __init__(self, output: Path) -> None:
        super().__init__(f"{output} is no folder for a dataset: name one that is to be made.")


class ImageNameError(CuratorError):
    """The name of an image to be written does not say its format."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is no name for an image: let it end with .png, which keeps every pixel."
        )


def add_commands(command: Command) -> None:
    """Add the commands and their arguments."""
    sub = command("demo", _demo, "Make a curated dataset with the embedded models.")
    sub.set_defaults(analyses=True)
    sub.add_argument("--output", type=Path, default=Path("demo"), help="folder (default: demo)")

    sub = command("run", _run, "Run a project file: every stage, continuing where it was.")
    sub.set_defaults(analyses=True)
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")
    add_engine_options(sub)

    sub = command("generate", _generate, "Make only the raw images of a project file.")
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")
    sub.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="this machine's part, as 1/3"
    )
    add_engine_options(sub)

    sub = command("curate", _curate, "Curate a folder of existing images into a dataset.")
    sub.set_defaults(analyses=True)
    sub.add_argument(
        "folder", nargs="+", help="folder of images, zip file, or image; several are one set"
    )
    sub.add_argument("--output", type=dataset_path, required=True, metavar="DATASET")
    sub.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="IMAGE",
        help="an image of the person (repeat for more)",
    )
    sub.add_argument(
        "--faces",
        default=said(sections.FacesSection, "pack")["default"],
        metavar="PACK",
        help="dlib, dlib-cnn, anime, an insightface pack's name (buffalo_l), a folder, or "
        "miniature (%(default)s); 'character-curator faces' lists them",
    )
    sub.add_argument(
        "--clip",
        default=said(sections.ClipSection, "model")["default"],
        metavar="MODEL",
        help="ARCHITECTURE:WEIGHTS (ViT-B-32:openai), a folder, or miniature (%(default)s)",
    )
    sub.add_argument("--total", type=int, **said(sections.SelectionSection, "total"))
    sub.add_argument("--clusters", type=int, **said(sections.ClustersSection, "count"))
    sub.add_argument("--min-quality", type=float, **said(sections.QualitySection, "minimum"))
    sub.add_argument(
        "--quality-formula",
        choices=option(sections.QualitySection, "formula").choices,
        **said(sections.QualitySection, "formula"),
    )
    for name in ("confidence", "share", "side", "identity"):
        sub.add_argument(
            f"--min-{name}", type=float, **said(sections.FacesSection, f"minimum_{name}")
        )
    sub.add_argument(
        "--face-choice",
        choices=option(sections.FacesSection, "choice").choices,
        **said(sections.FacesSection, "choice"),
    )
    for flag, name in _CROP_OPTIONS.items():
        _add_option(sub, flag, sections.CropSection, name)
    for flag, name in _BLEMISH_OPTIONS.items():
        _add_option(sub, flag, sections.BlemishesSection, name)
    sub.add_argument(
        "--quota",
        action="append",
        default=[],
        metavar="QUOTA",
        help="seed=7 (each), cluster=8..10, pose=frontal:30,profile:10, framing=bust:50%%.. "
        "(of any column); repeat, the most important first",
    )
    sub.add_argument(
        "--decisions",
        metavar="FILE",
        **said(sections.SelectionSection, "decisions"),
    )
    sub.add_argument(
        "--copies",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=option(sections.DuplicatesSection, "copies").text.replace("%", "%%"),
    )
    for name in ("trigger", "captions", "layout", "background", "alpha", "max_side",
                 "keep_formats", "masks", "mask_layout", "mask_model", "repeats"):  # fmt: skip
        _add_option(sub, f"--{name.replace('_', '-')}", sections.DatasetSection, name)
    sub.add_argument(
        "--work", type=Path, default=None, help="folder of measurements (default: DATASET.work)"
    )
    add_engine_options(sub)

    sub = command(
        "reproduce",
        _reproduce,
        "Make a generated image, a crop, or a version of a dataset again, and compare.",
    )
    sub.add_argument("image", type=Path, metavar="IMAGE.png|DATASET")
    sub.add_argument(
        "--output", type=Path, default=None,
        help="also save the new image here; of a dataset: the folder to make it in (needed)",
    )  # fmt: skip
    sub.add_argument(
        "--version", default="latest", metavar="N",
        help="of a dataset: the version to make again (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--base", type=Path, default=Path(), metavar="FOLDER",
        help="of a dataset: what relative paths of its recipe start from (default: the current "
        "folder)",
    )  # fmt: skip
    sub.add_argument(
        "--source",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="of a crop: the original, or a folder or zip file that holds it; of a dataset: where "
        "its images lie now",
    )


def _add_option(
    sub: argparse.ArgumentParser, flag: str, section: type[BaseModel], name: str
) -> None:
    """Add an option as its field in a section of the project file says it; None where not given."""
    field = option(section, name)
    given: dict[str, Any] = {"default": None, "help": field.text.replace("%", "%%")}
    if field.kind == "flag":
        given["action"] = "store_true"
    elif field.kind == "choice":
        given["choices"] = field.choices
    elif field.kind == "number":
        given |= {"type": float, "metavar": "SHARE"}
    elif field.kind == "whole":
        given |= {"type": int, "metavar": "N"}
    else:
        given["metavar"] = "TEXT"
    sub.add_argument(flag, **given)


def _demo(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import pipeline
    from ..project_parts import with_output
    from .training_view import TrainingView

    text = DEMO.read_text(encoding="utf-8")
    parsed = project.parse(text, "demo.toml")
    output = options.output.expanduser().resolve()
    console.print(f"[bold]Demo[/]: one character, from nothing to a LoRA, in {escape(output)}")
    started = time.monotonic()
    with TrainingView(console) as view:
        outcome = pipeline.run(
            with_output(parsed, output), callbacks=view.callbacks(), progress=view
        )
    atomic.write_text(output / "project.toml", text)
    return show_outcome(outcome, console, time.monotonic() - started)


def _run(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import pipeline
    from ..training.result import joined
    from .assets import made as assets
    from .memory import kept_while_training
    from .training_view import TrainingView

    parsed = with_engine(project.read(options.project), options)
    if parsed.portfolio is not None:
        from .portfolio import made

        return made(parsed, options.project.parent, console)
    if parsed.source is None and parsed.plan is None:  # a LoRA from elsewhere, for a game
        return assets(parsed, options.project.parent, console)
    if parsed.augmentation is not None:
        from .augmentation import made as augmented

        return augmented(parsed, options.project.parent, console)
    started = time.monotonic()
    with TrainingView(console) as view, kept_while_training() as memory:
        watching = joined(view.callbacks(), memory)
        outcome = pipeline.run(
            parsed,
            options.project.parent,
            callbacks=watching,
            on_notes=lambda notes: say(console, notes),
            progress=view,
        )
    code, told = show_outcome(outcome, console, time.monotonic() - started)
    if parsed.assets is None:
        return code, told
    later, more = assets(parsed, options.project.parent, console)
    return max(code, later), {**told, "assets": more}


def _generate(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import pipeline

    parsed = with_engine(project.read(options.project), options)
    with progress_on(console) as progress:
        images = pipeline.generate(
            parsed, options.project.parent, shard=options.shard, progress=progress
        )
    say(console, images.notes)
    console.print(f"{how_many(len(images), 'image')} in {escape(images.root)}")
    return EXIT_DONE, {"folder": str(images.root), "pictures": images.table["path"].to_list()}


def _stated(options: argparse.Namespace, work: Path) -> str:
    """Return how a recipe, which is published, names the folder of measurements.

    Of a place that was named from the current folder nothing above that is told.
    """
    named = options.work or options.output
    absolute = named.is_absolute() or str(named).startswith("~")
    return table_name(str(work) if absolute else os.path.relpath(work))


def _curate(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .. import pipeline
    from ..report.rejected import NothingPassesError

    clip, pretrained = clip_of(options.clip) or ("", "")
    output = options.output.expanduser().resolve()
    if not output.name:
        raise DatasetPlaceError(output)
    work = (options.work or output.with_name(output.name + ".work")).expanduser().resolve()
    sources = tuple(table_name(name) for name in options.folder)
    parsed = project.from_mapping(
        {
            "source": sources[0] if len(sources) == 1 else sources,
            "project": {"name": table_name(output.name), "output": _stated(options, work)},
            "faces": {
                "pack": options.faces,
                "references": [table_name(path) for path in options.reference],
                "minimum_confidence": options.min_confidence,
                "minimum_share": options.min_share,
                "minimum_side": options.min_side,
                "minimum_identity": options.min_identity,
                "choice": options.face_choice,
            },
            "crop": _section_of(options, _CROP_OPTIONS),
            "blemishes": _section_of(options, _BLEMISH_OPTIONS),
            "engine": engine_given(options),
            "quality": {"minimum": options.min_quality, "formula": options.quality_formula},
            "clip": {"model": clip, "pretrained": pretrained},
            "clusters": {"count": options.clusters},
            "selection": {
                "total": options.total,
                "quotas": options.quota,
                "decisions": options.decisions,
            },
            "duplicates": {} if options.copies is None else {"copies": options.copies},
            "dataset": {
                name: value
                for name in sections.DatasetSection.model_fields
                if (value := getattr(options, name, None)) is not None
            },
        },
        "the command line",
    )
    started = time.monotonic()
    with progress_on(console) as progress:
        images = pipeline.source_images(parsed, progress=progress)
        say(console, images.notes)
        try:
            outcome = pipeline.curate(images, parsed, work, dataset=output, progress=progress)
        except NothingPassesError as error:
            raise error.calling("options") from None
    return show_outcome(outcome, console, time.monotonic() - started, "options")


def _section_of(options: argparse.Namespace, flags: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the section of the project that options ask for; nothing where none does."""
    given = {
        field: value
        for flag, field in flags.items()
        if (value := getattr(options, flag[2:].replace("-", "_"))) is not None
    }
    return given or None


def _reproduce(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..generation.reproduce import reproduce
    from .versions import reproduce_version

    if options.image.is_dir():
        return reproduce_version(options, console)
    if options.output is not None:
        _format_of(options.output)  # what can't be saved is told before it is made
    result = reproduce(options.image, source=options.source)
    if options.output is not None:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(result.image).save(buffer, _format_of(options.output))
        atomic.write_bytes(options.output, buffer.getvalue())
    if result.identical:
        console.print(
            f"[bold green]Identical[/]: every pixel of {escape(options.image)} came again."
        )
    else:
        console.print(
            f"[bold yellow]Different[/]: PSNR {result.psnr:.1f} dB. What differs from when it was "
            f"made: {escape('; '.join(result.differences)) or 'nothing that is recorded'}."
        )
    return EXIT_DONE if result.identical else EXIT_DIFFERENT, {
        "identical": result.identical,
        "psnr": None if result.identical else result.psnr,
        "differences": list(result.differences),
    }


def _format_of(path: Path) -> str:
    """Return the format that a name's end stands for, in Pillow's words."""
    from PIL import Image

    Image.init()
    found = Image.EXTENSION.get(path.suffix.lower(), "")
    if found not in FORMATS or found not in Image.SAVE:
        raise ImageNameError(path.name)
    return found


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    numbers = index.isdecimal() and count.isdecimal() and len(index + count) < 20
    if not (numbers and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, as in 1/3")
    return int(index) - 1, int(count)
