"""CharacterPlan: who is to be seen in what, how often; pure data that SeedBatchGenerate runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ...core.counts import how_many
from ...core.errors import CuratorError
from ..ui.disk_state import always_answers
from ..ui.given import checks_inputs
from ..ui.widgets import widget
from ..ui.wires import Plan as PlanWire
from ..ui.wires import category, node_id, searched_as

if TYPE_CHECKING:
    from ...core.plan import Plan

DEMO = "demo"
"""The plan file that comes with the pack."""

_SCENARIOS = """\
casual | park | casual blue hoodie, warm smile, park background, soft daylight, frontal view, bust
lighting | beach | white dress, gentle smile, beach background, golden hour lighting, close-up
pose | profile | black t-shirt, neutral background, studio lighting, profile view, close-up"""
_ORIGINALS = """\
studio | gray t-shirt, neutral background, studio lighting, frontal view, close-up"""


class NoPlanFileError(CuratorError):
    """The plan file that a widget names is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"There is no plan file {path}. Put it into the input folder.")


class CharacterPlan(io.ComfyNode):
    """Makes a plan from widgets or from a TOML file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.plan import PlanRules

        return io.Schema(
            node_id=node_id("CharacterPlan"),
            display_name="Character Plan",
            **searched_as(
                "prompt list", "scenarios", "prompt matrix", "character description", "wildcards",
            ),
            category=category("1 Generate"),
            description=(
                "Seeds x (originals and scenarios) x takes: what images there shall be. Each "
                "image gets a noise seed of its own, so that any of them can be made alone."
            ),
            inputs=[
                io.String.Input(
                    "subject", default="char1",
                    tooltip="The character's name, used in file names and rows.",
                ),
                io.String.Input(
                    "trigger", default="char1",
                    tooltip="The word that a LoRA will learn for the character. It stands in the "
                    "captions, not in the prompts: the base model does not know it.",
                ),
                io.String.Input(
                    "class_word", default="woman",
                    tooltip="What the character is: woman, man, person, robot.",
                ),
                io.String.Input(
                    "description", multiline=True,
                    default="gentle freckled woman, wavy red hair, green eyes, fair skin",
                    tooltip="How the character looks, in the base model's words. Before there is "
                    "a LoRA this is all that keeps the character the same.",
                ),
                io.String.Input(
                    "scenarios", multiline=True, default=_SCENARIOS,
                    tooltip="One a line: 'prompt', 'name | prompt' or 'category | name | prompt'. "
                    "Empty lines and lines that start with # are skipped.",
                ),
                io.String.Input(
                    "originals", multiline=True, default=_ORIGINALS, optional=True,
                    tooltip="Reference images, plain and well lit; the same form as scenarios.",
                ),
                io.String.Input(
                    "seeds", default="966983-966992",
                    tooltip="Numbers and ranges, such as '1-10, 42'. Each seed makes every "
                    "original and every scenario once a take.",
                ),
                widget(PlanRules, "takes", max=1000),
                io.String.Input(
                    "template", default="portrait of a {description}, {scenario}",
                    tooltip="The prompt. Placeholders: {description}, {scenario}, {trigger}, "
                    "{class_word}, {subject}.",
                ),
                io.String.Input(
                    "caption", default="portrait of {trigger} {class_word}, {scenario}",
                    tooltip="The text to train with, with the same placeholders. It names the "
                    "trigger word instead of the looks.",
                ),
                widget(PlanRules, "negative_prompt", multiline=True, optional=True),
                io.String.Input(
                    "plan_file", default="", optional=True,
                    tooltip="A TOML file in ComfyUI's input folder (a plan or a project file), "
                    "taken instead of all other widgets; 'demo' is the plan of the demo: 540 "
                    "images of one character.",
                ),
            ],
            outputs=[
                PlanWire.Output(display_name="plan", tooltip="For Seed Batch Generate."),
                io.String.Output(display_name="summary", tooltip="How many images of what."),
            ],
        )  # fmt: skip

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, plan_file: str | None = None, **_: Any) -> Any:
        """Run again when the plan file has changed."""
        from ...core.imageset import content_hash

        return content_hash(_plan_path(plan_file)) if plan_file and plan_file.strip() else ""

    @classmethod
    @checks_inputs
    def execute(
        cls,
        subject: str,
        trigger: str,
        class_word: str,
        description: str,
        scenarios: str,
        seeds: str,
        takes: int,
        template: str,
        caption: str,
        originals: str = "",
        negative_prompt: str = "",
        plan_file: str = "",
    ) -> io.NodeOutput:
        """Make the plan."""
        from ...core.plan import Plan, Subject
        from ...core.project import text_of
        from .texts import plan_of_file, scenarios_of, seeds_of

        if plan_file.strip():
            plan = plan_of_file(text_of(_plan_path(plan_file)), plan_file)
        else:
            plan = Plan(
                subjects=(
                    Subject(
                        name=subject,
                        description=description,
                        trigger=trigger,
                        class_word=class_word,
                    ),
                ),
                seeds=seeds_of(seeds),
                scenarios=scenarios_of(scenarios),
                originals=scenarios_of(originals, "originals"),
                takes=takes,
                template=template,
                caption=caption,
                negative_prompt=negative_prompt,
            )
        return io.NodeOutput(plan, summary_of(plan))


def summary_of(plan: Plan) -> str:
    """Say how many images of what a plan asks for."""
    names = ", ".join(subject.name for subject in plan.subjects)
    return (
        f"{how_many(len(plan.requests()), 'image')} of {names}: "
        f"{how_many(len(plan.seeds), 'seed')} x ({how_many(len(plan.originals), 'original')} and "
        f"{how_many(len(plan.scenarios), 'scenario')})"
    )


def _plan_path(name: str) -> Any:
    from ..ui.paths import readable_path

    if name.strip() == DEMO:
        return Path(__file__).resolve().parents[2] / "core" / "demo.toml"
    path = readable_path(name)
    if not path.is_file():
        raise NoPlanFileError(path)
    return path
