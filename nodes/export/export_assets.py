"""ExportAssets: images for a game, cut out and packed into an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ...core.counts import how_many
from ...core.errors import CuratorError
from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.lines import lines_of
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as

if TYPE_CHECKING:
    from ...core.assets.consistency import Consistency
    from ...core.assets.pack import Pack
    from ...core.features import FeatureStore
    from ...core.imageset import ImageSet as Images

AS_IT_COMES = "as it comes"
_MOST_CATEGORIES = 1000
PAGE_SIZES = ["256", "512", "1024", "2048", "4096", "8192"]


class SizeError(CuratorError):
    """A text is no size that assets can have."""


class OneCategoryError(CuratorError):
    """There is a single category, which tells nothing apart."""

    def __init__(self) -> None:
        super().__init__("One category alone tells nothing apart: name two at least, or none.")


class ExportAssets(io.ComfyNode):
    """Writes images as an asset pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.asset_sections import BACKGROUNDS, AssetsSection

        return io.Schema(
            node_id=node_id("ExportAssets"),
            display_name="ExportAssets",
            **searched_as(
                "game assets", "texture atlas", "sprite sheet", "TexturePacker", "sprites",
                "remove background",
            ),
            category=category("3 Dataset"),
            description=(
                "Writes images as an asset pack for a game: the subject cut out, trimmed and in "
                "the size that you want, PNGs in a folder a prompt or category, a texture atlas "
                "with TexturePacker's JSON (Unity, Godot, Phaser, PixiJS), a manifest with the "
                "seed record of each, and a zip archive that comes again to the byte."
            ),
            inputs=[
                ImageSet.Input(
                    "images", optional=True,
                    tooltip="An image set: what was selected, or else accepted, goes into the "
                    "pack. Behind FaceValidate 'figure' and 'head' find the person.",
                ),
                io.Image.Input(
                    "batch", optional=True, tooltip="Or any images, in the place of a set.",
                ),
                io.Mask.Input(
                    "masks", optional=True,
                    tooltip="White where the subject is, one for each image in their order, from "
                    "BiRefNet, SAM or any other node that gives a MASK; then 'background' is not "
                    "looked at.",
                ),
                io.String.Input(
                    "folder", default="char1/assets",
                    tooltip="The pack's folder, in ComfyUI's output folder; the archive lies "
                    "beside it.",
                ),
                io.String.Input("name", default="char1", tooltip="Its name, for people."),
                widget(
                    AssetsSection, "background", options=list(BACKGROUNDS),
                    tooltip="keep leaves it; figure cuts out the person around the face that was "
                    "found, without a further model; person or foreground by rembg; head as "
                    "measured.",
                ),
                widget(AssetsSection, "trim"),
                io.String.Input(
                    "size", default=AS_IT_COMES,
                    tooltip="'power-of-two', a side in pixels such as 256, or width and height "
                    "such as 256x512; 'as it comes' leaves it.",
                ),
                widget(AssetsSection, "anchor"),
                widget(AssetsSection, "atlas"),
                io.Combo.Input(
                    "atlas_size", options=PAGE_SIZES, default="2048",
                    tooltip="Longest side of a page of the atlas in pixels; what does not fit goes "
                    "onto further pages.",
                ),
                widget(AssetsSection, "padding"),
                widget(AssetsSection, "extrude"),
                io.String.Input(
                    "categories", default="", multiline=True, optional=True,
                    tooltip="Tags, one a line, each with a text that describes its images: 'armor "
                    "= a character in armor'. Every image gets the one whose text is nearest to "
                    "it, and lies in a folder of that name. Without any the folders are the "
                    "prompts' names. Needs ClipCluster before it.",
                ),
                io.String.Input(
                    "clip_model", default="miniature", optional=True,
                    tooltip="For categories: the model of ClipCluster.",
                ),
                io.String.Input(
                    "clip_pretrained", default="", optional=True,
                    tooltip="For categories: its weights.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="atlas",
                    tooltip="The first page of the atlas; without an atlas all assets at a glance.",
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="White where the atlas shows something.",
                ),
                io.String.Output(display_name="path", tooltip="The pack's folder."),
                io.String.Output(
                    display_name="summary",
                    tooltip="What was written, and how much it shows one character.",
                ),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("cv2", "polars", "rectpack", "scipy")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(
        cls, folder: str | None = None, categories: str | None = "",
        clip_model: str | None = "miniature", clip_pretrained: str | None = "", **_: Any,
    ) -> Any:  # fmt: skip
        """Run again when the pack is gone or changed, or CLIP has been replaced."""
        from ..curate.clip_cluster import clip_state
        from ..ui.disk_state import output_fingerprint

        # Of what comes over a wire nothing is known yet.
        named = (categories or "").strip()
        tagged = clip_state(clip_model or "", clip_pretrained) if named else ""
        return [output_fingerprint(folder), tagged]

    @classmethod
    @checks_inputs
    @says_damage(3)
    def execute(
        cls,
        folder: str,
        name: str,
        background: str,
        trim: bool,
        size: str,
        anchor: str,
        atlas: bool,
        atlas_size: str,
        padding: int,
        extrude: int,
        images: Any = None,
        batch: Any = None,
        masks: Any = None,
        categories: str = "",
        clip_model: str = "miniature",
        clip_pretrained: str = "",
    ) -> io.NodeOutput:
        """Write the pack."""
        from ...core.asset_sections import AtlasRules, SpriteRules, fixed_size
        from ...core.assets.consistency import as_validated
        from ...core.assets.cutouts import Cutter
        from ...core.assets.manifest import left_out
        from ...core.assets.pack import write_pack
        from ...core.assets.tagging import text_of
        from ..ui.disk_state import disk_state
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress
        from .asset_views import shown

        place = output_path(folder)
        wanted = "" if size.strip() == AS_IT_COMES else size.strip()
        if wanted:
            try:
                fixed_size(wanted)
            except ValueError as error:  # as pydantic, which asks it too, wants it
                raise SizeError(str(error)) from error
        sprites = SpriteRules.model_validate(
            {
                "background": background,
                "trim": trim,
                "size": wanted or None,
                "anchor": anchor,
            }
        )
        rules = AtlasRules.model_validate(
            {"atlas": atlas, "atlas_size": int(atlas_size), "padding": padding, "extrude": extrude}
        )
        named = text_of("\n".join(lines_of("categories", categories, _MOST_CATEGORIES)))
        everything, rows = _given(images, batch)
        with feature_store() as store:
            if named:
                rows = _tagged(rows, named, clip_model, clip_pretrained, store)
            folders = [
                str(found or name)
                for found in rows.table["tag" if named else "scenario_name"].to_list()
            ]
            cutter = None if masks is not None else Cutter(background, None, store)
            found = as_validated(rows, folders)
            made = write_pack(
                rows,
                place,
                folders,
                _on_wire(masks, len(rows))
                if cutter is None
                else lambda _, row, image: cutter.mask(row, image),
                sprites,
                rules,
                name=name,
                about={
                    "background": {
                        "kind": "masks" if cutter is None else background,
                        "by": "given masks" if cutter is None else cutter.fingerprint,
                    },
                    "categories": named,
                    "consistency": found.identity_mapping(),
                    "left_out": left_out(everything),
                },
                progress=NodeProgress(),
            )
        files = [path for path in made.folder.rglob("*") if path.is_file()]
        disk_state.record(made.folder, [*files, made.archive])
        summary = _summary(made, found, everything)
        picture, mask, preview = shown(made)
        return io.NodeOutput(
            picture,
            mask,
            str(made.folder),
            summary,
            ui=ui.PreviewImage(preview, cls=cls).as_dict() | {"text": (summary,)},
        )


def _given(images: Any, batch: Any) -> tuple[Images, Images]:
    """Return all images that there are, and those that go into the pack."""
    import folder_paths

    from ...core.imageset import ImageSet as Set
    from ..curate.filters import chosen
    from ..ui.image_files import write_batch
    from ..ui.progress import NodeProgress

    if (images is None) == (batch is None):
        raise InputsError("Connect an image set to 'images', or an IMAGE to 'batch', and not both.")
    if images is not None:
        return images, chosen(images, "selected")
    place = Path(folder_paths.get_temp_directory()) / "character_curator" / "assets"
    written = Set.from_rows(write_batch(batch, place, NodeProgress()), place)
    return written, written


def _tagged(
    images: Images, named: dict[str, str], model: str, pretrained: str, store: FeatureStore
) -> Images:
    """Return the images with the category of each."""
    from ...core.analysis.embed import embed
    from ...core.analysis.embeddings import Embedder
    from ...core.assets.tagging import tag
    from ..curate.clip_cluster import clip_path
    from ..ui.progress import NodeProgress

    if len(named) < 2:
        raise OneCategoryError
    embedder = Embedder(clip_path(model) or model, clip_path(pretrained) or None)
    return tag(embed(images, embedder, store, NodeProgress()), named, embedder, store)


def _on_wire(masks: Any, count: int) -> Any:
    """Return what gives each image its mask, of those on a wire."""
    from PIL import Image

    from ...core.dataset.masks import MaskError
    from ...core.reading.masks import of_another_shape, uncovered
    from ..ui.images import to_bytes

    given: Sequence[Any] = list(to_bytes(masks))
    if len(given) != count:
        raise MaskError(
            f"{how_many(len(given), 'mask is', 'masks are')} given for "
            f"{how_many(count, 'image')}. Give one for each in their order: connect Image Set to "
            "Images (count as many as go into the pack) to what makes them."
        )

    def mask(number: int, row: Any, image: Any) -> Any:
        found = Image.fromarray(given[number], "L")
        if found.size == image.size:
            return found
        if of_another_shape(found.size, image.size):
            return uncovered(found, image.size)  # of the middle, as a batch of one size has it
        return found.resize(image.size, Image.Resampling.BILINEAR)

    return mask


def _summary(made: Pack, found: Consistency, images: Images) -> str:
    """Say what was written."""
    counts: dict[str, int] = {}
    for file in made.files:
        counts[file.partition("/")[0]] = counts.get(file.partition("/")[0], 0) + 1
    folders = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    lines = [f"{len(made.files):,} of {how_many(len(images), 'image')} in {made.folder}: {folders}"]
    if made.atlas is not None:
        sizes = ", ".join(f"{width} x {height}" for width, height in made.atlas.pages)
        lines.append(f"Atlas: {sizes} pixels")
    if found.mean is not None:
        lines.append(f"Identity: mean {found.mean:.3f}, least {found.least:.3f}")
    if found.clip is not None:
        lines.append(f"Similarity of any two by CLIP: {found.clip:.3f}")
    if made.empty:
        lines.append(f"Left out, because nothing was cut out: {len(made.empty)}")
    if made.mended:
        lines.append(f"Not as written, and made again: {', '.join(made.mended)}")
    lines.append(f"Archive: {made.archive}, SHA-256 {made.digest}")
    return "\n".join(lines)
