"""Commands about captions: written by models, edited, taken back, counted, checked."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..captions.settings import CaptionSettings
from ..counts import how_many, worded
from ..naming import first_of
from ..options import Option, options
from .output import EXIT_DIFFERENT, EXIT_DONE, Command, escape, progress_on
from .places import folder_path, input_path

if TYPE_CHECKING:
    from rich.console import Console

    from ..captions import CaptionTable, Operation
    from ..captions.preview import Edit
    from ..captions.writing import Written

_SHOWN = 12
"""How many captions a preview prints; ``--json`` has all."""
_LONG = 240
"""How many letters of a finding are printed; ``--json`` has all."""


class _InOrder(argparse.Action):
    """Keeps what is done in the order in which it was said."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the operation to those before it."""
        done = [*(getattr(namespace, "operations", None) or []), (self.dest, values)]
        namespace.operations = done


def add_commands(command: Command) -> None:
    """Add the commands and their arguments."""
    sub = command(
        "caption",
        _caption,
        "Let a model write the captions of a folder's images; 'captions undo' takes it back.",
    )
    _add_folder(sub)
    sub.add_argument(
        "--model", required=True, metavar="MODEL",
        help="a tagger (wd-eva02-large-tagger-v3, or a folder with model.onnx and "
        "selected_tags.csv), or a vision-language model (florence-2-large, "
        "Qwen/Qwen2.5-VL-3B-Instruct, or a folder of transformers)",
    )  # fmt: skip
    _add_trigger(sub, "what is put in front; the folder's own unless given, '' for none")
    sub.add_argument("--preview", action="store_true", help="show the captions, write nothing")
    sub.add_argument(
        "--work", type=Path, metavar="FOLDER",
        help="where what models have said is kept, so that it is not asked again (FOLDER.work)",
    )  # fmt: skip
    for option in options(CaptionSettings):
        _add_option(sub, option)

    sub = command(
        "captions edit",
        _edit,
        "Edit all captions of a folder, in the order of the options; 'captions undo' takes it "
        "back.",
    )
    _add_folder(sub)
    _add_trigger(sub, "the trigger word; the folder's own unless given")
    sub.set_defaults(operations=[])
    for name, metavar, text in (
        ("add", "TEXT", "add a phrase behind, where it is not yet"),
        ("add-front", "TEXT", "add a phrase in front, behind the trigger word"),
        ("remove", "TEXT", "take a phrase between commas away, whatever its case"),
        ("replace", ("OLD", "NEW"), "replace whole words, wherever they stand"),
        ("pattern", ("PATTERN", "NEW"), "replace by a regular expression; \\1 is its first group"),
    ):
        sub.add_argument(
            f"--{name}", action=_InOrder, metavar=metavar, help=text,
            nargs=2 if isinstance(metavar, tuple) else None, default=argparse.SUPPRESS,
        )  # fmt: skip
    for name, text in (
        ("trigger-front", "put the trigger word in front, where it is not"),
        ("deduplicate", "take phrases away that a caption has said before"),
    ):
        sub.add_argument(
            f"--{name}", action=_InOrder, nargs=0, help=text, default=argparse.SUPPRESS
        )
    sub.add_argument(
        "--prune", action=_InOrder, nargs="?", type=float, const=1.0, metavar="SHARE",
        default=argparse.SUPPRESS,
        help="take phrases away that this share of the captions has (1 unless given: all): what is "
        "always there belongs to the trigger word",
    )  # fmt: skip
    sub.add_argument(
        "--keep", default="", metavar="TEXT", help="phrases that --prune leaves, with commas"
    )
    sub.add_argument(
        "--images", default="*", metavar="NAME", help="only images so called, as 'portrait*'"
    )
    sub.add_argument("--preview", action="store_true", help="show what would change, write nothing")

    _add_folder(command("captions undo", _undo, "Take the last edit of captions back."))
    _add_folder(command("captions history", _history, "List the edits of captions."))

    sub = command("captions frequencies", _frequencies, "Count what captions say.")
    _add_folder(sub, input_path)
    sub.add_argument("--words", action="store_true", help="count words, not phrases")
    sub.add_argument("--top", type=int, default=40, metavar="N", help="how many (%(default)s)")

    sub = command("captions lint", _lint, "Say what may be wrong with captions.")
    _add_folder(sub, input_path)
    _add_trigger(sub, "the trigger word; the folder's own unless given")
    sub.add_argument(
        "--base", default="clip", metavar="MODEL",
        help="count tokens as this base model's text encoder does: a name, folder or file "
        "(%(default)s: SD 1 and 2, SDXL)",
    )  # fmt: skip


def _add_folder(sub: argparse.ArgumentParser, place: Callable[[str], object] = folder_path) -> None:
    sub.add_argument("folder", type=place, metavar="FOLDER", help="dataset, or folder of images")


def _add_trigger(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--trigger", default=None, metavar="WORD", help=text)


def _add_option(sub: argparse.ArgumentParser, option: Option) -> None:
    """Add an option of models that write captions, as its field says it."""
    given: dict[str, Any] = {"default": None}
    if option.kind == "flag":
        given["action"] = argparse.BooleanOptionalAction
    elif option.kind == "choice":
        given["choices"] = option.choices
    elif option.kind in ("whole", "number"):
        given |= {"type": int, "metavar": "N"} if option.kind == "whole" else {
            "type": float, "metavar": "X"}  # fmt: skip
    else:
        given["metavar"] = "TEXT"
    shown = "" if option.default == "" else f" (default {str(option.default).lower()})"
    text = f"{option.text}{shown}".replace("%", "%%")
    sub.add_argument(f"--{option.name.replace('_', '-')}", **given, help=text)


def _caption(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..captions import caption_folder, captioner, read_table, write
    from ..captions.settings import caption_settings
    from ..features import FeatureStore

    told = {name: getattr(options, name) for name in CaptionSettings.model_fields}
    settings = caption_settings({k: v for k, v in told.items() if v is not None})
    table = read_table(options.folder)
    _say(table, console)
    model = captioner(options.model, settings)
    work = options.work or table.root.with_name(f"{table.root.name}.work")
    with FeatureStore(work / "features.sqlite") as store, progress_on(console) as progress:
        run = caption_folder(
            table, model, settings=settings, store=store, trigger=options.trigger,
            progress=progress,
        )  # fmt: skip
    _show_changes(run.edit, console)
    written = None if options.preview else write(run.edit)
    console.print(
        f"{escape(model.name)} was asked about {how_many(run.asked, 'image')}, and had known "
        f"{how_many(run.known, 'image')}; {run.kept:,} kept "
        f"the caption that {worded(run.kept, 'it has', 'they have')}."
    )
    if run.kept and settings.existing == "keep":
        console.print("--existing replace writes those too, --existing append adds to them.")
    for remark, count in run.remarks.items():
        console.print(
            f"[yellow]Note[/]: of {how_many(count, 'caption')} {escape(remark)} (--max-tokens)."
        )
    for name, reason in list(run.failed.items())[:_SHOWN]:
        console.print(f"[yellow]No caption[/]: {escape(name)}: {escape(reason)}")
    if len(run.failed) > _SHOWN:
        console.print(
            f"{len(run.failed) - _SHOWN:,} more "
            f"{worded(len(run.failed) - _SHOWN, 'has', 'have')} none (--json has all)."
        )
    if written is not None:
        _show_written(written, console, "written")
    else:
        console.print("Nothing was written. Leave --preview away to write it.")
    return EXIT_DIFFERENT if run.failed else EXIT_DONE, {
        **_as_json(run.edit, written), "model": model.name, "asked": run.asked, "known": run.known,
        "kept": run.kept,
        "failed": run.failed, "remarks": run.remarks,
    }  # fmt: skip


def _edit(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..captions import edit, read_table, write
    from ..captions.edits import EditError

    if not options.operations:
        raise EditError(
            "Nothing is to be done. Say what: --add, --add-front, --remove, --replace, --pattern, "
            "--trigger-front, --prune, --deduplicate."
        )
    table = read_table(options.folder, trigger=options.trigger)
    _say(table, console)
    made = edit(table, _operations(options, table), images=options.images)
    _show_changes(made, console)
    if options.preview:
        console.print("Nothing was written. Leave --preview away to write it.")
        return EXIT_DONE, _as_json(made, None)
    written = write(made)
    _show_written(written, console, "changed")
    if written.changed:
        console.print(f"Take it back: character-curator captions undo {escape(str(table.root))}")
    return EXIT_DONE, _as_json(made, written)


def _operations(options: argparse.Namespace, table: CaptionTable) -> list[Operation]:
    from ..captions import edits

    def trigger() -> edits.Trigger:
        if not table.trigger:
            raise edits.EditError(
                f"{table.root} does not say its trigger word. Give it with --trigger WORD."
            )
        return edits.Trigger(table.trigger)

    word = table.trigger
    make: dict[str, Callable[[Any], Operation]] = {
        "add": lambda text: edits.Add(text),
        "add_front": lambda text: edits.Add(text, front=True, trigger=word),
        "remove": lambda text: edits.Remove(text),
        "replace": lambda pair: edits.Replace(*pair),
        "pattern": lambda pair: edits.Substitute(*pair),
        "trigger_front": lambda _: trigger(),
        "deduplicate": lambda _: edits.Deduplicate(),
        "prune": lambda share: edits.Prune(share, options.keep, word),
    }
    return [make[name](value) for name, value in options.operations]


def _undo(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..captions import undo

    written = undo(options.folder)
    console.print(f"Taken back: {escape('; '.join(written.what))}")
    _show_written(written, console, "as before")
    if written.kept:
        console.print(
            f"[yellow]Left[/], since somebody has changed them after that edit: "
            f"{escape(first_of(written.kept, _SHOWN))}"
        )
    code = EXIT_DIFFERENT if written.kept else EXIT_DONE
    return code, {"number": written.number, "what": list(written.what),
                  "changed": written.changed, "kept": list(written.kept),
                  "previous": written.previous and str(written.previous)}  # fmt: skip


def _history(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from rich.table import Table

    from ..captions import read_history, read_table

    steps = read_history(options.folder.expanduser().resolve())
    if not steps:
        read_table(options.folder)  # refuses a folder that is not there, or has no image
    shown = Table(title="Edits of captions", title_justify="left")
    for heading in ("", "when (UTC)", "what", "captions", "state"):
        shown.add_column(heading)
    for step in steps:
        state = "taken back" if step.undone else ""
        what = escape("; ".join(step.what))
        shown.add_row(str(step.number), escape(step.time[:19]), what, str(len(step.changes)), state)
    console.print(shown if steps else "No captions were edited here.")
    return EXIT_DONE, [
        {"number": step.number, "time": step.time, "what": list(step.what), "undone": step.undone,
         "changes": [{"image": one.image, "before": one.text, "after": one.new}
                     for one in step.changes.values()]}
        for step in steps
    ]  # fmt: skip


def _frequencies(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from rich.table import Table

    from ..captions import frequencies, read_table

    table = read_table(options.folder)
    _say(table, console)
    found = frequencies(table.texts, "words" if options.words else "phrases")
    said = sum(map(bool, table.texts))
    shown = Table(
        title=f"{how_many(said, 'caption')} of {how_many(len(table.rows), 'image')}",
        title_justify="left",
    )
    shown.add_column("word" if options.words else "phrase")
    shown.add_column("captions", justify="right")
    shown.add_column("share", justify="right")
    for one in found[: options.top]:
        shown.add_row(escape(one.text), str(one.count), f"{one.share:.0%}")
    console.print(shown)
    if len(found) > options.top:
        console.print(
            f"{len(found) - options.top:,} more {worded(len(found) - options.top, 'is', 'are')} "
            "rarer (--top N shows more)."
        )
    return EXIT_DONE, {
        "images": len(table.rows), "captions": said,
        "frequencies": [{"text": one.text, "count": one.count, "share": one.share}
                        for one in found],
    }  # fmt: skip


def _lint(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..captions import lint, read_table, text_encoder

    table = read_table(options.folder, trigger=options.trigger)
    _say(table, console)
    encoder = text_encoder(options.base)
    found = lint(table, encoder=encoder)
    counted = Counter(one.kind for one in found)
    for kind, count in counted.items():
        several = [one for one in found if one.kind is kind]
        color = "dim" if several[0].is_hint else "yellow"
        console.print(f"[{color}]{kind}[/]: {count}{' (a hint)' * several[0].is_hint}")
        for one in several[:_SHOWN]:
            said = ": ".join(filter(None, (one.image, one.detail)))
            console.print(f"  {escape(said[:_LONG] + '…' * (len(said) > _LONG))}")
        if count > _SHOWN:
            console.print(f"  … and {count - _SHOWN} more (--json has all)")
    faults = sum(not one.is_hint for one in found)
    if not table.trigger:
        console.print("No trigger word is known here (--trigger WORD), so none was looked for.")
    console.print(
        f"{how_many(len(table.rows), 'caption')}: {how_many(faults, 'fault')}, "
        f"{how_many(len(found) - faults, 'hint')}. Length by {escape(encoder.name)}, "
        f"{how_many(encoder.limit, 'token')}."
    )
    return EXIT_DIFFERENT if faults else EXIT_DONE, {
        "captions": len(table.rows), "faults": faults, "trigger": table.trigger,
        "text_encoder": encoder.name, "tokens": encoder.limit,
        "findings": [one.to_mapping() for one in found],
    }  # fmt: skip


def _say(table: CaptionTable, console: Console) -> None:
    for note in table.notes:
        console.print(f"[yellow]Note[/]: {escape(note)}")


def _show_changes(made: Edit, console: Console) -> None:
    for change in made.changes[:_SHOWN]:
        console.print(f"[bold]{escape(change.image)}[/]")
        console.print(f"  [red]-[/] {escape(change.before)}")
        console.print(f"  [green]+[/] {escape(change.after)}")
    if len(made.changes) > _SHOWN:
        console.print(f"… and {len(made.changes) - _SHOWN} more (--json has all)")
    for note in made.notes:
        console.print(f"[yellow]Note[/]: {escape(note)}")
    console.print(
        f"{len(made.changes):,} of {how_many(len(made.table.rows), 'caption')} "
        f"{worded(len(made.changes), 'changes', 'change')}."
    )


def _show_written(written: Written, console: Console, how: str) -> None:
    console.print(f"{how_many(written.changed, 'caption')} {how}.")
    if written.previous is not None:
        console.print(
            f"The dataset is a new version; the one before is {escape(str(written.previous))}. "
            "What was verified or trained before is of that one."
        )


def _as_json(made: Edit, written: Written | None) -> dict[str, Any]:
    return {
        "folder": str(made.table.root),
        "what": list(made.what),
        "written": written is not None and written.changed > 0,
        "number": written.number if written else 0,
        "previous": str(written.previous) if written and written.previous else None,
        "notes": [*made.table.notes, *made.notes],
        "changes": [{"image": one.image, "before": one.before, "after": one.after}
                    for one in made.changes],
    }  # fmt: skip
