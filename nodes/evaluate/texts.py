"""What an evaluation is asked for and what it says, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...core.counts import how_many
from ..plan.texts import seeds_of
from ..ui.lines import lines_of

if TYPE_CHECKING:
    from ...core.evaluation.character import Character
    from ...core.evaluation.prompts import Prompt
    from ...core.evaluation.result import Evaluation

MOST_IMAGES = 10_000
"""Of an evaluation, of each series."""
_ROWS: tuple[tuple[str, str, str], ...] = (
    ("consistency", "character consistency", ".0%"),
    ("artefacts", "artefacts", ".0%"),
    ("leakage", "leakage (class word alone)", ".0%"),
    ("adherence", "adherence (CLIP)", ".3f"),
    ("identity", "mean identity similarity", ".3f"),
    ("quality", "mean quality", ".3f"),
    ("one_face", "exactly one face", ".0%"),
    ("rating", "mean rating, 1 to 5", ".2f"),
    ("diversity", "diversity (Vendi score)", ".2f"),
    ("memorised", "memorised", ".0%"),
    ("score", "score", ".3f"),
)


def prompts_of(text: str, seeds: str, character: Character) -> tuple[Prompt, ...]:
    """Read prompts, one a line; without any, the seed document's three with their three seeds each.

    The person is ``{who}``. A line may also say the trigger word, which is then taken for it.

    Args:
        text: The lines.
        seeds: Noise seeds that each of them is made with, such as ``1-3``.
        character: Whose trigger and class word may stand for ``{who}``.

    Raises:
        PromptError: A line names nobody.
        SeedsError: The seeds are no numbers.
        LinesError: The prompts with these seeds are more than :data:`MOST_IMAGES` images.
    """
    from ...core.evaluation.prompts import SEED_DOCUMENT, WHO, Prompt

    numbers = seeds_of(seeds)
    found = []
    for line in lines_of("prompts", text, MOST_IMAGES // max(1, len(numbers))):
        if WHO not in line:
            person = rf"{re.escape(character.trigger)}(\s+{re.escape(character.class_word)})?"
            line = re.sub(rf"(?<!\w){person}(?!\w)", WHO, line, count=1)
        found.append(Prompt(line, numbers))
    return tuple(found) or SEED_DOCUMENT


def character_of(
    known: Character, plan: object, header: str, trigger: str, class_word: str
) -> Character:
    """Return whom an evaluation is about.

    Args:
        known: What the dataset knows.
        plan: A ``core.plan.Plan``, whose first subject it is; or None.
        header: The trigger phrase that the LoRA file names; empty if none.
        trigger: The user's, which goes before all others; empty if none.
        class_word: The user's.
    """
    from ...core.dataset.trigger_words import without_class_word

    subjects: Sequence[object] = getattr(plan, "subjects", ())
    for subject in subjects[:1]:
        known = replace(
            known,
            trigger=subject.trigger or subject.name,  # type: ignore[attr-defined]
            class_word=subject.class_word or known.class_word,  # type: ignore[attr-defined]
            description=subject.description or known.description,  # type: ignore[attr-defined]
        )
    if not subjects and header:
        known = replace(known, trigger=header)
    given = {"trigger": trigger.strip(), "class_word": class_word.strip()}
    known = replace(known, **{name: value for name, value in given.items() if value})
    return replace(known, trigger=without_class_word(known.trigger, known.class_word))


def figures_of(evaluation: Evaluation, told: Sequence[str]) -> str:
    """Say the figures beside the base model's, and what to do about those that miss their mark.

    Args:
        evaluation: Whose figures.
        told: What its diagnosis says.
    """
    from ...core.evaluation.compare import figures_table

    own, base = figures_table([evaluation]).to_dicts()
    width = max(len(label) for _, label, _ in _ROWS)
    count = how_many(evaluation.summary.trigger.images, "image")
    lines = [
        f"{evaluation.name}: {count}",
        f"{'':{width}}  {'LoRA':>8}  {'base':>8}",
    ]
    for key, label, form in _ROWS:
        values = [_shown(row.get(key), form) for row in (own, base)]
        if any(values):
            lines.append(f"{label:{width}}  {values[0]:>8}  {values[1]:>8}")
    threshold = evaluation.threshold
    lines.append(f"Identity threshold {threshold.value:.3f}: {threshold.explanation}.")
    lines += told
    return "\n".join(lines)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
