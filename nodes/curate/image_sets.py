"""Image sets from folders and IMAGE batches, and back to IMAGE batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ...core.errors import CuratorError
from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import checks_inputs
from ..ui.wires import ImageSet, category, node_id, searched_as

if TYPE_CHECKING:
    from pathlib import Path

_SHEET = 100


class NoImagesError(CuratorError):
    """None of the images that are asked for are there."""

    def __init__(self, which: str, first: int) -> None:
        super().__init__(
            f"There is no image among the {which} ones from number {first} on. Lower 'first', or "
            "choose others in 'which'."
        )


class LoadImageSet(io.ComfyNode):
    """Lists a folder of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("LoadImageSet"),
            display_name="Load Image Set",
            **searched_as("load folder", "load images", "import images", "photo folder"),
            category=category("2 Curate"),
            description=(
                "Lists every image of a folder and its subfolders, with the captions beside "
                "them. Files that cannot be read stay in the set with the reason."
            ),
            inputs=[
                io.String.Input(
                    "folder", default="photos",
                    tooltip="A folder in ComfyUI's input folder, or else in its output folder; or "
                    "a zip file, or an image. Several are divided by ';'.",
                ),
            ],
            outputs=[
                ImageSet.Output(display_name="images", tooltip="A row an image; no pixels."),
                io.Image.Output(display_name="sheet", tooltip="The first images at a glance."),
                io.String.Output(
                    display_name="notes",
                    tooltip="What was read of captions, folders' names and other programs' data, "
                    "and what is no image.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when a file has been added, removed or changed."""
        from ..ui.disk_state import listing

        return str([listing(place) for place in _places(folder)]) if folder else ""

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(cls, folder: str) -> io.NodeOutput:
        """List the folder."""
        from pathlib import Path

        import folder_paths

        from ...core.imageset import ImageSet as Set
        from ..ui.images import sheet_of
        from ..ui.progress import NodeProgress

        unpacked = Path(folder_paths.get_temp_directory()) / "character_curator"
        images = Set.from_folder(_places(folder), unpacked=unpacked, progress=NodeProgress())
        sheet = sheet_of(images, by="kind", limit=_SHEET)
        preview = ui.PreviewImage(sheet, cls=cls)
        return io.NodeOutput(images, sheet, "\n".join(images.notes), ui=preview)


def _places(text: str) -> list[Path]:
    """Resolve a folder, a zip file or an image, or several of them divided by ';'."""
    from ..ui.paths import readable_path

    whole = readable_path(text)
    if whole.exists() or ";" not in text:
        return [whole]
    return [readable_path(part.strip()) for part in text.split(";") if part.strip()]


class ImagesToImageSet(io.ComfyNode):
    """Writes an IMAGE batch to disk and lists it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("ImagesToImageSet"),
            display_name="Images to Image Set",
            **searched_as("image batch to set", "save images"),
            category=category("2 Curate"),
            description=(
                "Writes the images of an IMAGE batch as PNG files, named by their content, and "
                "makes an image set of them. Equal images become one file."
            ),
            inputs=[
                io.Image.Input("images", tooltip="Any images."),
                io.String.Input(
                    "folder", default="char1/images",
                    tooltip="Where the files go, in ComfyUI's output folder.",
                ),
                io.String.Input(
                    "subject", default="char1", tooltip="The character that they show.",
                ),
                io.String.Input(
                    "caption", default="", multiline=True, optional=True,
                    tooltip="A caption for all of them.",
                ),
            ],
            outputs=[ImageSet.Output(display_name="images", tooltip="A row an image.")],
        )  # fmt: skip

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when a file is gone or changed."""
        from ..ui.disk_state import output_fingerprint

        return output_fingerprint(folder)

    @classmethod
    @checks_inputs
    @says_damage()
    def execute(cls, images: Any, folder: str, subject: str, caption: str = "") -> io.NodeOutput:
        """Write the files that are not there yet."""
        from ...core.imageset import ImageSet as Set
        from ..ui.disk_state import disk_state
        from ..ui.image_files import write_batch
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress

        place = output_path(folder)
        columns = {"subject": subject or None, "caption": caption.strip() or None}
        written = write_batch(images, place, NodeProgress(), **columns)
        rows = {row["path"]: row for row in written}
        made = Set.from_rows(rows.values(), place)
        disk_state.record(place, made.paths())
        return io.NodeOutput(made)


class ImageSetToImages(io.ComfyNode):
    """Reads the images of a set into an IMAGE batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("ImageSetToImages"),
            display_name="Image Set to Images",
            **searched_as("image set to batch", "load captions", "image list"),
            category=category("3 Dataset"),
            description=(
                "Reads images of a set into memory, as one IMAGE batch in the size of the "
                "first, with their captions beside them."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="Any image set."),
                io.Combo.Input(
                    "which", options=["selected", "accepted", "all"], default="selected",
                    tooltip="Selected takes the accepted ones where no selection was made.",
                ),
                io.Int.Input(
                    "first", default=0, min=0, max=1_000_000,
                    tooltip="How many images to skip.",
                ),
                io.Int.Input(
                    "count", default=64, min=1, max=4096,
                    tooltip="The most images to read: each of 1024x1024 pixels takes 12.6 MB.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="One batch."),
                io.String.Output(
                    display_name="captions", is_output_list=True,
                    tooltip="A list of texts, in the order of the images.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @checks_inputs
    def execute(cls, images: Any, which: str, first: int, count: int) -> io.NodeOutput:
        """Read the images."""
        from ...core.analysis.decoding import read_image
        from ...core.dataset.captions import what_varies
        from ...core.naming import located
        from ..ui.images import to_batch
        from ..ui.progress import NodeProgress
        from .filters import chosen

        rows = chosen(images, which).table.slice(first, count)
        if not rows.height:
            raise NoImagesError(which, first)
        from PIL import Image

        progress = NodeProgress()
        progress.start("Reading", rows.height)
        batch, captions = [], []
        for row in rows.iter_rows(named=True):
            pixels = read_image(located(images.root, row["path"]))
            batch.append(Image.fromarray(pixels[..., ::-1].copy()))
            captions.append(row["caption"] or what_varies(row))
            progress.advance()
        return io.NodeOutput(to_batch(batch), captions)
