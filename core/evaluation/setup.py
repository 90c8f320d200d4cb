"""What an evaluation is made with: the character, prompts, sampling, models and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset.facts import DatasetFacts, read_facts
from ..dataset.sidecars import read_captions
from ..defaults import (
    CLIP_MODEL,
    DUPLICATE_SIMILARITY,
    FACE_PACK,
    MINIMUM_CONFIDENCE,
    MINIMUM_QUALITY,
)
from .character import Character, template_of
from .prompts import SEED_DOCUMENT, VOCABULARY, Prompt, new_prompts, vocabulary_of
from .threshold import ThresholdRule

if TYPE_CHECKING:
    from ..features import FeatureStore
    from ..generation.diffusers_backend import DiffusersBackend
    from .images import Analysers

_SAMPLING = ("scheduler", "steps", "guidance", "width", "height", "dtype", "device", "config")


@dataclass(frozen=True)
class Setup:
    """Everything about an evaluation except the LoRA.

    Attributes:
        model: The base model: ``miniature``, a folder, or a hub id.
        character: Whom it is about.
        prompts: New prompts; each is made once in every series.
        grid: Prompts with seeds of their own, rated image by image.
        sampling: Arguments of :class:`.DiffusersBackend`: ``steps``, ``guidance``, …
        batch_size: Images that are sampled together.
        strength: Weight of the LoRA.
        faces: insightface pack.
        clip: open_clip model and weights.
        rule: How the identity threshold is found.
        minimum_quality: Least quality of an image without artefacts.
        minimum_confidence: Least confidence of a certain face.
        duplicates: Cosine from which on two images count as one.
        with_class: Make the images of the class word, which leakage is measured on.
    """

    model: str | Path
    character: Character
    prompts: tuple[Prompt, ...]
    grid: tuple[Prompt, ...] = SEED_DOCUMENT
    sampling: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    strength: float = 1.0
    faces: str = FACE_PACK
    clip: tuple[str, str] = (CLIP_MODEL, "")
    rule: ThresholdRule = field(default_factory=ThresholdRule)
    minimum_quality: float = MINIMUM_QUALITY
    minimum_confidence: float = MINIMUM_CONFIDENCE
    duplicates: float = DUPLICATE_SIMILARITY
    with_class: bool = True

    @staticmethod
    def of_dataset(
        dataset: Path, *, trigger: str | None = None, seed: int = 0, **options: Any
    ) -> Setup:
        """Set up the evaluation of LoRAs that were trained on a dataset; see :meth:`of_facts`.

        Args:
            dataset: Its folder.
            trigger: The trigger word, if known otherwise.
            seed: Of the draw of new prompts.
            options: As for :meth:`of_facts`.
        """
        facts, captions = read_facts(dataset), read_captions(dataset)
        return Setup.of_facts(facts, trigger=trigger, seed=seed, captions=captions, **options)

    @staticmethod
    def of_facts(
        facts: DatasetFacts,
        *,
        trigger: str | None = None,
        model: str | Path | None = None,
        prompts: Sequence[Prompt] | None = None,
        count: int = 100,
        seed: int = 0,
        captions: Sequence[str] = (),
        **options: Any,
    ) -> Setup:
        """Set up an evaluation; what is not given is as the training images were made.

        Args:
            facts: What is known of the dataset.
            trigger: The trigger word, if known otherwise.
            model: The base model.
            prompts: To evaluate with; ``count`` new ones from the dataset's vocabulary unless
                given.
            count: How many prompts; given ones are repeated in turn, each time with another seed.
            seed: Of the draw of new prompts.
            captions: The training captions, so that no new prompt repeats one.
            options: Other attributes of this class; ``None`` stands for what is known of the
                dataset, and else for the default.
        """
        if prompts is None:
            prompts = prompts_of(facts, count, seed=seed, captions=captions)
        else:
            prompts = [prompts[i % len(prompts)] for i in range(count)]
        # Another model has another size and wants another scheduler.
        same = model is None or str(model) == str(facts.model.get("path"))
        kept = _SAMPLING if same else ("steps", "guidance")
        known = {name: facts.model[name] for name in kept if facts.model.get(name) is not None}
        given = {k: v for k, v in (options.pop("sampling", None) or {}).items() if v is not None}
        values: dict[str, Any] = {
            "model": model or facts.model.get("path") or "miniature",
            "character": Character.of(facts, trigger),
            "prompts": tuple(prompts),
            "sampling": {**known, **given},
            "batch_size": int(facts.model.get("batch_size", 8)),
            "faces": facts.faces or None,
            "clip": facts.clip,
            "minimum_quality": facts.minimum_quality,
            "minimum_confidence": facts.minimum_confidence,
            "duplicates": facts.duplicates,
        }
        values |= {name: value for name, value in options.items() if value is not None}
        return Setup(**{name: value for name, value in values.items() if value is not None})

    def backend(self, lora: Path | None = None) -> DiffusersBackend:
        """Return the base model, with or without a LoRA; weights load when they are needed."""
        from ..generation.diffusers_backend import DiffusersBackend

        loras = [] if lora is None else [(lora, self.strength)]
        return DiffusersBackend(self.model, loras=loras, **self.sampling)

    def analysers(self, store: FeatureStore) -> Analysers:
        """Return what images are measured with; models load when they are needed."""
        from ..analysis.embeddings import Embedder
        from ..analysis.face_analyser import FaceAnalyser
        from ..analysis.face_validation import FaceThresholds
        from .images import Analysers

        return Analysers(
            FaceAnalyser(self.faces),
            Embedder(self.clip[0], self.clip[1] or None),
            store,
            FaceThresholds(confidence=self.minimum_confidence),
            self.minimum_quality,
        )


def prompts_of(
    facts: DatasetFacts, count: int, *, seed: int = 0, captions: Sequence[str] = ()
) -> tuple[Prompt, ...]:
    """Return new prompts in a dataset's words; no scene of the training set comes again."""
    return new_prompts(
        count,
        vocabulary=vocabulary_of(facts.scenes) or VOCABULARY,
        template=template_of(facts),
        known=[*facts.scenes, *captions],
        seed=seed,
    )
