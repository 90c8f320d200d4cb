"""The command line: character-curator demo | run | generate | curate | reproduce | miniature."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import CuratorError

if TYPE_CHECKING:
    from rich.console import Console

    from .console import ConsoleProgress
    from .pipeline import Outcome

EXIT_DONE, EXIT_DIFFERENT, EXIT_USER, EXIT_STOPPED = 0, 1, 2, 130
_EPILOG = """\
exit codes: 0 done; 1 done, but not as wanted (a picture that could not be reproduced);
2 something to mend, which the message names; 130 stopped by Ctrl-C (run again to go on)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from rich.console import Console

    options = _parser().parse_args(arguments)
    console = Console(stderr=True, quiet=options.quiet)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.ERROR,
        format="%(levelname)s %(name)s: %(message)s",
    )
    _quiet_libraries()
    try:
        code, result = options.command(options, console)
    except CuratorError as error:
        if options.json:
            _write_json({"error": type(error).__name__, "message": str(error)})
        else:
            console.print(f"[bold red]{type(error).__name__}[/]: {_escape(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        console.print("Stopped. Run the same command again: it goes on where it was.")
        return EXIT_STOPPED
    if options.json:
        _write_json(result)
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    common.add_argument("--quiet", action="store_true", help="no progress and no messages")
    common.add_argument("--verbose", action="store_true", help="log what the stages decide")

    parser = argparse.ArgumentParser(
        prog="character-curator",
        description="Generate, curate and export training sets for a character.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., Any], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=run)
        return sub

    sub = command("demo", _demo, "Make a curated data set with the embedded models.")
    sub.add_argument("--output", type=Path, default=Path("demo"), help="folder (default: demo)")

    sub = command("run", _run, "Run a project file: every stage, continuing where it was.")
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")

    sub = command("generate", _generate, "Make only the raw pictures of a project file.")
    sub.add_argument("project", type=Path, metavar="PROJECT.toml")
    sub.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="this machine's part, as 1/3"
    )

    sub = command("curate", _curate, "Curate a folder of existing pictures into a data set.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--output", type=Path, required=True, metavar="DATASET")
    sub.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="PICTURE",
        help="a picture of the person (repeat for more)",
    )
    sub.add_argument(
        "--faces",
        default="miniature",
        metavar="PACK",
        help="insightface pack: its name (buffalo_l), its folder, or miniature (%(default)s)",
    )
    sub.add_argument(
        "--clip",
        default="miniature",
        metavar="MODEL",
        help="ARCHITECTURE:WEIGHTS (ViT-B-32:openai), a folder, or miniature (%(default)s)",
    )
    sub.add_argument("--total", type=int, default=70, help="how many to choose (%(default)s)")
    sub.add_argument("--clusters", type=int, default=8, help="how many clusters (%(default)s)")
    sub.add_argument("--min-quality", type=float, default=0.74, help="(%(default)s)")
    sub.add_argument(
        "--min-identity",
        type=float,
        default=None,
        help="smallest similarity to the reference; without it only reported",
    )
    sub.add_argument(
        "--quota",
        action="append",
        default=[],
        metavar="QUOTA",
        help="seed=7 (each), cluster=8..10, pose=frontal:30,profile:10, framing=bust:50%%.. "
        "(of any column); repeat, the most important first",
    )
    sub.add_argument(
        "--work", type=Path, default=None, help="folder of measurements (default: DATASET.work)"
    )

    sub = command("reproduce", _reproduce, "Make a generated picture again and compare pixels.")
    sub.add_argument("picture", type=Path, metavar="IMAGE.png")
    sub.add_argument("--output", type=Path, default=None, help="also save the new picture here")

    sub = command("miniature", _miniature, "The embedded models: where they are, train, measure.")
    sub.add_argument("action", choices=("where", "train", "measure"), nargs="?", default="where")
    sub.add_argument("--output", type=Path, default=Path("miniature-weights"))
    sub.add_argument("--hours", type=float, default=3.0, help="time budget of 'train' in all")
    sub.add_argument("--seed", type=int, default=0)
    return parser


def _demo(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from . import pipeline, project

    text = (
        resources.files(__package__ or "character_curator")
        .joinpath("demo.toml")
        .read_text(encoding="utf-8")
    )
    parsed = project.parse(text, "demo.toml")
    output = options.output.expanduser().resolve()
    console.print(f"[bold]Demo[/]: one character, from nothing to a data set, in {output}")
    started = time.monotonic()
    with _progress(console) as progress:
        outcome = pipeline.run(pipeline.with_output(parsed, output), progress=progress)
    (output / "project.toml").write_text(text, encoding="utf-8")
    return _report(outcome, console, time.monotonic() - started)


def _run(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from . import pipeline, project

    parsed = project.read(options.project)
    started = time.monotonic()
    with _progress(console) as progress:
        outcome = pipeline.run(parsed, options.project.parent, progress=progress)
    return _report(outcome, console, time.monotonic() - started)


def _generate(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from . import pipeline, project

    parsed = project.read(options.project)
    with _progress(console) as progress:
        images = pipeline.generate(
            parsed, options.project.parent, shard=options.shard, progress=progress
        )
    console.print(f"{len(images)} pictures in {images.root}")
    return EXIT_DONE, {"folder": str(images.root), "pictures": images.table["path"].to_list()}


def _curate(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from . import pipeline, project
    from .imageset import ImageSet

    clip, _, pretrained = options.clip.partition(":")
    if Path(options.clip).is_dir():
        clip, pretrained = options.clip, ""
    output = options.output.expanduser().resolve()
    work = (options.work or output.with_name(output.name + ".work")).expanduser().resolve()
    parsed = project.from_mapping(
        {
            "source": str(options.folder),
            "project": {"name": output.name, "output": str(work)},
            "faces": {
                "pack": options.faces,
                "references": options.reference,
                "minimum_identity": options.min_identity,
            },
            "quality": {"minimum": options.min_quality},
            "clip": {"model": clip, "pretrained": pretrained},
            "clusters": {"count": options.clusters},
            "selection": {
                "total": options.total,
                "quotas": options.quota,
            },
        },
        "the command line",
    )
    started = time.monotonic()
    with _progress(console) as progress:
        images = ImageSet.from_folder(options.folder, progress=progress)
        outcome = pipeline.curate(images, parsed, work, dataset=output, progress=progress)
    return _report(outcome, console, time.monotonic() - started)


def _reproduce(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from .generation.reproduce import reproduce

    result = reproduce(options.picture)
    if options.output is not None:
        from PIL import Image

        Image.fromarray(result.image).save(options.output)
    if result.identical:
        console.print(f"[bold green]Identical[/]: every pixel of {options.picture} came again.")
    else:
        console.print(
            f"[bold yellow]Different[/]: PSNR {result.psnr:.1f} dB. What differs from when it was "
            f"made: {_escape('; '.join(result.differences)) or 'nothing that is recorded'}."
        )
    return EXIT_DONE if result.identical else EXIT_DIFFERENT, {
        "identical": result.identical,
        "psnr": None if result.identical else result.psnr,
        "differences": list(result.differences),
    }


def _miniature(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from . import miniature

    if options.action == "train":
        from .miniature.recipe.family import train_family

        with _progress(console) as progress:
            weights = train_family(
                options.output,
                budget_seconds=options.hours * 3600,
                seed=options.seed,
                progress=progress,
            )
        console.print(
            f"Trained. Measure with: character-curator miniature measure --output {weights}"
        )
        return EXIT_DONE, {"weights": str(weights)}
    if options.action == "measure":
        from .miniature import measure

        root = options.output if options.output.is_dir() else miniature.WEIGHTS
        with _progress(console) as progress:
            table = measure.measure_all(root, progress=progress)
        console.print(_escape(measure.markdown_table(table)))
        return EXIT_DONE, table
    places = {
        "text-to-image": str(miniature.DIFFUSION_PATH),
        "faces": str(miniature.FACE_PACK_PATH),
        "clip": str(miniature.CLIP_PATH),
    }
    for name, place in places.items():
        console.print(f"{name}: {place}")
    return EXIT_DONE, places


def _report(outcome: Outcome, console: Console, seconds: float) -> tuple[int, Any]:
    """Show what came of a run, as a person would want to be told."""
    from rich.table import Table

    images, total = outcome.images, len(outcome.images)
    chosen = images.filter(images.table["selected"])
    funnel = Table(title="What became of every picture", title_justify="left")
    funnel.add_column("")
    funnel.add_column("pictures", justify="right")
    funnel.add_row("candidates", str(total))
    for reason, count in images.rejections().items():
        funnel.add_row(f"  {reason.replace('_', ' ')}", f"-{count}")
    funnel.add_row("[bold]chosen[/]", f"[bold]{len(chosen)}[/]")
    console.print(funnel)
    if len(chosen):
        scores = chosen.table["quality"].to_numpy()
        console.print(
            f"Quality of the chosen: {scores.min():.2f} to {scores.max():.2f}, "
            f"mean {scores.mean():.2f}"
        )
    for sentence in outcome.selection.sentences():
        console.print(_escape(sentence))
    folder = outcome.exported.folder
    console.print(f"\nDone in {seconds:.0f} s.")
    console.print(f"Data set: [bold]{folder}[/]")
    console.print(f"Look at:  [bold]{folder / 'report.html'}[/]")
    return EXIT_DONE, {
        "dataset": str(folder),
        "candidates": total,
        "chosen": len(chosen),
        "rejections": images.rejections(),
        "selection": outcome.selection.proof(),
        "computed": outcome.computed,
        "seconds": round(seconds, 1),
    }


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, as in 1/3")
    return int(index) - 1, int(count)


def _progress(console: Console) -> ConsoleProgress:
    from .console import ConsoleProgress

    return ConsoleProgress(console)


def _write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _quiet_libraries() -> None:
    """Keep the model libraries' own bars and notices out of the picture."""
    import os
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
