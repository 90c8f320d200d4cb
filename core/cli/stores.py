"""Commands about object stores: upload, download, shards, and the copies that are kept here."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import how_many
from .output import EXIT_DONE, Command, escape, progress_on, say
from .places import input_path, shards_path

if TYPE_CHECKING:
    from rich.console import Console


def add_commands(command: Command) -> None:
    """Add the commands and their arguments."""
    sub = command("upload", _upload, "Put a dataset or a file into an object store, whole.")
    sub.add_argument("place", type=Path, metavar="DATASET|FILE")
    sub.add_argument("address", metavar="ADDRESS", help="as s3://bucket/dataset")

    sub = command("download", _download, "Copy a dataset or folder from an object store, whole.")
    sub.add_argument("place", type=input_path, metavar="ADDRESS")
    sub.add_argument("output", type=Path, metavar="FOLDER", help="is not there yet")

    sub = command(
        "export", _export, "Write a dataset as shards of WebDataset, for training on many machines."
    )
    sub.add_argument("dataset", type=input_path, metavar="DATASET")
    sub.add_argument(
        "--output", type=shards_path, required=True, metavar="FOLDER", help="is not there yet"
    )
    sub.add_argument(
        "--format", choices=("webdataset",), default="webdataset",
        help="tar files with image, caption and JSON of each sample (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--shards", type=int, metavar="N", help="at least so many, alike in number (default 1)"
    )
    sub.add_argument(
        "--shard-size", default="1GB", metavar="SIZE", help="the most of each (%(default)s)"
    )

    sub = command("cache", _cache, "Show the copies of objects in stores, and sweep them.")
    sub.add_argument("--sweep", action="store_true", help="remove those that no process uses")
    sub.add_argument(
        "--days", type=float, default=0.0, metavar="N",
        help="with --sweep: only those that were not used for so many days (%(default)s)",
    )  # fmt: skip


def _upload(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..dataset.checksums import unlike_export
    from ..stores.uploads import upload_dataset, upload_files

    with progress_on(console) as progress:
        if options.place.is_dir():
            say(console, unlike_export(options.place))
            done = upload_dataset(options.place, options.address, progress)
        else:
            above, _, name = options.address.rpartition("/")
            done = upload_files({name: options.place}, above, name, progress)
    console.print(escape(done.in_words), soft_wrap=True, highlight=False)
    return EXIT_DONE, {
        "address": done.address, "files": done.files, "sent": done.sent, "bytes": done.size,
        "previous": done.previous,
    }  # fmt: skip


def _download(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    import shutil

    from .. import atomic
    from ..errors import WriteError

    target = options.output.expanduser()
    if target.exists():
        raise WriteError(target, FileExistsError(17, "it is there already"))
    if options.place.is_file():
        with atomic.replacing(target) as temporary:
            shutil.copyfile(options.place, temporary)
    else:
        with atomic.filling(target) as making:
            shutil.copytree(
                options.place, making, dirs_exist_ok=True, copy_function=shutil.copyfile
            )
    console.print(f"Copied to [bold]{escape(str(target))}[/]")
    return EXIT_DONE, {"folder": str(target)}


def _export(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..dataset.shards import write_shards
    from ..stores.cache import bytes_of, in_words

    with progress_on(console) as progress:
        made = write_shards(
            options.dataset,
            options.output,
            count=options.shards,
            size=bytes_of(options.shard_size),
            progress=progress,
        )
    say(console, made.notes)
    same = ", unchanged" if made.unchanged else ""
    console.print(
        f"{how_many(made.samples, 'image')} in {how_many(made.shards, 'shard')} "
        f"({in_words(made.size_bytes)}){same}: [bold]{escape(str(made.folder))}[/]"
    )
    return EXIT_DONE, {
        "folder": str(made.folder), "shards": made.shards, "images": made.samples,
        "bytes": made.size_bytes, "unchanged": made.unchanged, "notes": list(made.notes),
    }  # fmt: skip


def _cache(options: argparse.Namespace, console: Console) -> tuple[int, Any]:
    from ..stores.cache import Cache, in_words, kept, sweep_unused

    cache = Cache.usual()
    removed: list[Any] = []
    if options.sweep:
        removed, held = sweep_unused(cache, options.days)
        for one in removed:
            console.print(f"Swept: {escape(one.address)} ({in_words(one.size)})")
        say(console, [
            f"{one.address} {'waits for its upload' if one.waits else 'is in use'} and stays."
            for one in held
        ])  # fmt: skip
    there = kept(cache)
    for one in there:
        day = time.strftime("%Y-%m-%d", time.gmtime(one.used))
        waits = ", waits for its upload" if one.waits else ""
        console.print(f"{in_words(one.size):>12}  used {day}  {escape(one.address)}{waits}")
    total = sum(one.size for one in there)
    console.print(f"{in_words(total)} of {in_words(cache.limit)} in {escape(str(cache.folder))}")
    return EXIT_DONE, {
        "folder": str(cache.folder), "limit": cache.limit, "bytes": total,
        "copies": [
            {"address": one.address, "bytes": one.size, "waits": one.waits} for one in there
        ],
        "swept": [one.address for one in removed],
    }  # fmt: skip
