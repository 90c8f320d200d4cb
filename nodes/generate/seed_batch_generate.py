"""SeedBatchGenerate: every image of a plan, made inside one node, each made once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import InputsError, checks_inputs
from ..ui.sampling_inputs import sampling_inputs
from ..ui.widgets import widget
from ..ui.wires import ImageSet, Waves, category, node_id, searched_as
from ..ui.wires import Plan as PlanWire

_SHEET = 100


class SeedBatchGenerate(io.ComfyNode):
    """Runs a plan on whatever a KSampler takes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import WavesSection

        return io.Schema(
            node_id=node_id("SeedBatchGenerate"),
            display_name="SeedBatchGenerate",
            **searched_as(
                "batch generate", "many seeds", "generate dataset", "character images",
            ),
            category=category("1 Generate"),
            description=(
                "Makes every image of a plan, one after the other, each from its own noise "
                "seed, and writes it at once. Images that are there already, made from the same "
                "prompt, model and settings, are kept: Cancel loses one image at most, and the "
                "next run goes on. Each PNG opens as a small stock graph that makes it again."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Any model that a KSampler takes."),
                io.Vae.Input("vae", tooltip="Decodes the latents."),
                PlanWire.Input("plan", tooltip="What images there shall be."),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="Encodes the plan's prompts, each different one once.",
                ),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="A conditioning in place of every prompt of the plan.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True,
                    tooltip="A conditioning in place of every negative prompt of the plan.",
                ),
                io.String.Input(
                    "folder", default="char1/raw",
                    tooltip="Where the images go, in ComfyUI's output folder.",
                ),
                *sampling_inputs(),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=64,
                    tooltip="1: every pixel is what a stock KSampler makes of the recorded noise "
                    "seed. More: faster on a GPU, and what a stock graph makes of the seed is "
                    "equal up to rounding only. Samplers that draw noise on the way always take 1.",
                ),
                io.Int.Input(
                    "limit", default=0, min=0, max=1_000_000,
                    tooltip="Make only the first so many images of the plan; 0 makes all. In "
                    "waves: the most images in all.",
                ),
                widget(
                    WavesSection, "size", "wave", default=0, min=0, optional=True,
                    tooltip="0 makes the whole plan. More: in waves of so many images, each where "
                    "the selection is short; GenerateUntil, behind BalancedSelect, asks for them. "
                    "8 do well, or two thirds of those to be chosen where a quota counts what is "
                    "measured, such as clusters.",
                ),
                widget(
                    WavesSection, "takes", "wave_takes", default=0, min=0, max=1_000_000,
                    optional=True,
                    tooltip="In waves: the most images of each scenario and seed; 0 makes as many "
                    "as help, whatever the plan's takes are.",
                ),
            ],
            outputs=[
                ImageSet.Output(display_name="images", tooltip="A row an image; no pixels."),
                io.Image.Output(display_name="sheet", tooltip="The first images at a glance."),
                Waves.Output(
                    display_name="waves", tooltip="For GenerateUntil, where 'wave' is not 0.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.dynprompt, io.Hidden.unique_id],
            is_output_node=True,
            # GenerateUntil adds the same node once more, which then has further images to make.
            not_idempotent=True,
        )  # fmt: skip

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when an image is gone or changed."""
        from ..ui.disk_state import output_fingerprint

        return output_fingerprint(folder)

    @classmethod
    @checks_inputs
    @says_damage()
    def execute(
        cls,
        model: Any,
        vae: Any,
        plan: Any,
        folder: str,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        width: int,
        height: int,
        batch_size: int,
        limit: int,
        clip: Any = None,
        positive: Any = None,
        negative: Any = None,
        wave: int = 0,
        wave_takes: int = 0,
    ) -> io.NodeOutput:
        """Make the images that are not there yet."""
        from comfy.cli_args import args

        from ...core.generation.run import generate
        from ..comfy.backend import WiresBackend
        from ..comfy.identity import model_name, wires_identity
        from ..comfy.stock_graph import Sampling, image_graph, installed, text_chunks
        from ..ui.disk_state import disk_state
        from ..ui.images import sheet_of
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress
        from .in_waves import NOBODY_ASKS
        from .in_waves import Waves as InWaves

        if clip is None and (positive is None or negative is None):
            raise InputsError(
                "Connect 'clip', which encodes the plan's prompts, or both 'positive' and "
                "'negative' in their place."
            )
        place = output_path(folder)
        sampling = Sampling(sampler_name, scheduler, steps, cfg, width, height)
        graph = cls.hidden.prompt or {}
        own = cls.hidden.unique_id
        # A node that a loop has added is not in the graph that was queued.
        inputs = cls.hidden.dynprompt.get_node(own)["inputs"] if cls.hidden.dynprompt else {}
        given = {"model": model, "vae": vae, "clip": clip}
        progress = NodeProgress()
        backend = WiresBackend(
            model,
            vae,
            clip,
            positive,
            negative,
            sampling,
            name=model_name(graph, inputs.get("model")),
            fingerprint=wires_identity(graph, inputs, given, (positive, negative)),
            on_image=progress.image,
            refuses_no_numbers=True,
        )
        wires = _wires(graph, inputs)

        def texts(request: Any) -> dict[str, str]:
            if wires is None or args.disable_metadata:
                return {}
            alone = image_graph(
                graph,
                wires,
                sampling,
                noise_seed=request.noise_seed,
                positive=request.prompt,
                negative=request.negative_prompt,
                name=request.file_name.removesuffix(".png"),
            )
            return text_chunks(alone, installed)

        def make(requests: Any, note: Any = None) -> Any:
            return generate(
                requests,
                backend,
                place,
                batch_size=batch_size,
                progress=progress,
                texts=texts,
                note=note,
            )

        waves = None
        if wave:
            most = limit or len(plan.requests())
            waves = InWaves(own, plan, backend.settings, place, wave, most, wave_takes or None)
            images, waves = waves.make(make)
            if own in graph and not any(
                [own, 2] in node.get("inputs", {}).values() for node in graph.values()
            ):
                images = replace(images, notes=(*images.notes, NOBODY_ASKS))
        else:
            images = make(plan.requests()[: limit or None])
        disk_state.record(place, images.paths())
        sheet = sheet_of(images, by="kind", limit=_SHEET)
        return io.NodeOutput(images, sheet, waves, ui=ui.PreviewImage(sheet, cls=cls))


def _wires(graph: Any, inputs: Any) -> Any:
    """Return where the node's models come from; None when the graph is not known."""
    from ..comfy.identity import is_link
    from ..comfy.stock_graph import Wires

    names = ("model", "vae", "clip", "positive", "negative")
    links: dict[str, Any] = {
        name: inputs.get(name) if is_link(inputs.get(name)) else None for name in names
    }
    known = all(link is None or link[0] in graph for link in links.values())
    if links["model"] is None or links["vae"] is None or not known:
        return None
    return Wires(**links)
