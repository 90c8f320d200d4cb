"""What suits a family of models: presets, chosen by the model, under whatever a person sets.

A preset is a table; nothing here knows how a model is loaded. Sources of the values, by their
letters in the comments:

- K: kohya-ss/sd-scripts, ``docs/`` (``sdxl``, ``flux``, ``sd3``, ``lumina``, ``anima`` and
  ``hunyuan_image_train_network.md``), commit of February 2026.
- M: kohya-ss/musubi-tuner, ``docs/`` (``zimage``, ``qwen_image``, ``krea2``, ``flux_2``,
  ``flux_kontext``, ``ideogram4``, ``kandinsky5``, ``wan.md``) and ``training/timesteps.py``, commit
  of June 2026.
- A: ostris/ai-toolkit, ``config/examples`` and ``ui/src/app/jobs/new`` (``options.tsx``, and the
  defaults of ``jobConfig.ts``: rank 32, alpha 32, 1e-4, guidance 4, 25 steps), commit of August
  2026.
- P: the paper or model card that a comment names.

Alpha equals the rank wherever its source names none, so that the scale is 1. Epochs, batch and
optimizer depend on the images and the machine, and are in no preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..defaults import SAMPLE_GUIDANCE, SAMPLE_STEPS
from ..lora.families import Guess, named
from .settings import PRESETS, SettingsError, TrainingSettings

AUTO = "auto"
"""The preset of the model's own family."""

CaptionStyle = Literal["prose", "tags"]


@dataclass(frozen=True)
class Preset:
    """What suits a family.

    Attributes:
        settings: Options of :class:`.TrainingSettings` by name.
        guidance: Guidance scale of sample images.
        steps: Their denoising steps.
        captions: How the family's own training images are described.
    """

    settings: Mapping[str, Any]
    guidance: float = SAMPLE_GUIDANCE
    steps: int = SAMPLE_STEPS
    captions: CaptionStyle = "prose"


def _of(rank: int, rate: float, side: int, **more: Any) -> dict[str, Any]:
    shape = {"rank": rank, "alpha": float(rank), "learning_rate": rate, "resolution": side}
    return {**shape, **more}


def _flow(rank: int, rate: float, side: int = 1024, **more: Any) -> dict[str, Any]:
    return _of(rank, rate, side, **{"timestep_sampling": "logit-normal", **more})


# K (docs/sdxl_train_network.md): rank 32, 1e-4. Min-SNR 5: P, arXiv 2303.09556. Guidance 6 and 25
# steps: A. 1024: P, arXiv 2307.01952. Timesteps evenly, as it was trained: P, arXiv 2006.11239.
_SDXL = _of(32, 1e-4, 1024, timestep_sampling="uniform", min_snr_gamma=5.0)
# K (docs/flux_train_network.md): rank 16, 1e-4, flux_shift. 1024: the model card.
_FLUX = _flow(16, 1e-4, resolution_shift="flux")
# M (docs/qwen_image.md): rank 16, 5e-5, shift 2.2. 1024 of its 512, 768, 1024: A.
_QWEN = _flow(16, 5e-5, timestep_shift=2.2)
# M (docs/flux_2.md): rank 32, 1e-4, flux2_shift, which is Flux.1's curve over tokens.
_FLUX2 = _flow(32, 1e-4, resolution_shift="flux")
# M (docs/zimage.md): rank 32, 1e-4, shift 2.0.
_Z_IMAGE = _flow(32, 1e-4, timestep_shift=2.0)
# M (docs/krea2.md): rank 32, alpha 32, 1e-4, shift 2.5, all linear layers.
_KREA2 = _flow(32, 1e-4, timestep_shift=2.5, targets="full")
# K (docs/sd3_train_network.md): rank 16, 1e-4, no shift. Logit-normal: P, arXiv 2403.03206.
_SD3 = _flow(16, 1e-4)
# M (docs/wan.md): rank 32, 2e-4, shift 3.0. Images are frames: 512 of A's 512, 768, 1024.
_WAN = _flow(32, 2e-4, 512, timestep_shift=3.0)

FAMILY_PRESETS: Mapping[str, Preset] = {
    # K (docs/train_network.md): rank 16, 1e-4. 512: the model card. Min-SNR, guidance as SDXL.
    "sd1": Preset(_of(16, 1e-4, 512, timestep_sampling="uniform", min_snr_gamma=5.0), 6.0, 25),
    # The same at the sizes of their model cards. A schedule that ends without signal is the
    # model's own, and is trained as the model has it.
    "sd2": Preset(_of(16, 1e-4, 512, timestep_sampling="uniform", min_snr_gamma=5.0), 6.0, 25),
    "sd2-v": Preset(_of(16, 1e-4, 768, timestep_sampling="uniform", min_snr_gamma=5.0), 6.0, 25),
    "sdxl": Preset(_SDXL, 6.0, 25),
    # SDXL's; their model cards say that they were trained on booru tags.
    "illustrious": Preset(_SDXL, 6.0, 25, "tags"),
    "noobai": Preset(_SDXL, 6.0, 25, "tags"),
    "pony": Preset(_SDXL, 6.0, 25, "tags"),
    # Guidance 4, 25 steps: A (train_lora_sd35_large_24gb.yaml).
    "sd3": Preset(_SD3, 4.0, 25),
    "sd3.5-medium": Preset(_SD3, 4.0, 25),
    "sd3.5-large": Preset(_SD3, 4.0, 25),
    # Guidance 3.5 (distilled): the model card.
    "flux1": Preset(_FLUX, 3.5, 25),
    # M (docs/flux_kontext.md): rank 32, 1e-4, flux_shift. Guidance 2.5: the model card.
    "flux1-kontext": Preset(_flow(32, 1e-4, resolution_shift="flux"), 2.5, 25),
    # A (train_lora_flux_schnell_24gb.yaml): rank 16, 1e-4, guidance 1, 4 steps.
    "flux1-schnell": Preset(_flow(16, 1e-4), 1.0, 4),
    # K (docs/flux_train_network.md, Chroma): sigmoid, no distilled guidance. A (the example of
    # Chroma): rank 16, 1e-4, guidance 4, 25 steps.
    "chroma": Preset(_flow(16, 1e-4), 4.0, 25),
    "chroma-radiance": Preset(_flow(16, 1e-4), 4.0, 25),
    # Guidance 4 (distilled): the model card.
    "flux2": Preset(_FLUX2, 4.0, 25),
    "flux2-klein-4b": Preset(_FLUX2, 4.0, 25),
    "flux2-klein-9b": Preset(_FLUX2, 4.0, 25),
    # Guidance 4, 25 steps: A.
    "qwen-image": Preset(_QWEN, 4.0, 25),
    "qwen-image-edit": Preset(_QWEN, 4.0, 25),
    # Guidance and steps: A (options.tsx, zimage and zimage:turbo).
    "z-image": Preset(_Z_IMAGE, 4.0, 30),
    "z-image-turbo": Preset(_Z_IMAGE, 1.0, 9),
    "krea2": Preset(_KREA2, 4.0, 25),
    "krea2-turbo": Preset(_KREA2, 1.0, 9),
    # K (docs/anima_train_network.md): rank 8, 1e-4, sigmoid, no shift. Tags: its model card.
    "anima": Preset(_flow(8, 1e-4), 4.0, 25, "tags"),
    # K (docs/lumina_train_network.md): rank 8, 1e-4, nextdit_shift, which is evenly drawn and
    # moved along Flux.1's curve.
    "lumina2": Preset(
        _of(8, 1e-4, 1024, timestep_sampling="uniform", resolution_shift="flux"), 4.0, 25
    ),
    # K (docs/hunyuan_image_train_network.md): rank 16, 1e-4, shift 5.0, drawn evenly ("sigma").
    "hunyuan-image": Preset(
        _of(16, 1e-4, 1024, timestep_sampling="uniform", timestep_shift=5.0), 4.0, 25
    ),
    # M (training/timesteps.py, ideogram4_shift): logit-normal of width 1.5, moved by resolution.
    # Rank 32, 1e-4: A's defaults.
    "ideogram4": Preset(
        _flow(32, 1e-4, timestep_spread=1.5, resolution_shift="ideogram4"), 4.0, 25
    ),
    # M (docs/kandinsky5.md): rank 32, alpha 32, 1e-4, shift 5.0.
    "kandinsky5": Preset(_flow(32, 1e-4, timestep_shift=5.0), 4.0, 25),
    "wan2.1": Preset(_WAN, 4.0, 25),
    "wan2.2": Preset(_WAN, 4.0, 25),
    "wan2.2-5b": Preset(_WAN, 4.0, 25),
    # A (train_lora_hidream_48.yaml; hidream_model.py): rank 32, 2e-4, evenly, shift 3.0.
    "hidream": Preset(
        _of(32, 2e-4, 1024, timestep_sampling="uniform", timestep_shift=3.0), 4.0, 25
    ),
    # A (options.tsx, ernie_image): its defaults of rank and rate, timesteps evenly.
    "ernie": Preset(_of(32, 1e-4, 1024, timestep_sampling="uniform"), 4.0, 25),
    # A (train_lora_omnigen2_24gb.yaml): rank 16, 1e-4, sigmoid, guidance 4, 25 steps.
    "omnigen2": Preset(_flow(16, 1e-4), 4.0, 25),
    # A (options.tsx, mageflow, boogu_image): defaults of rank and rate, timesteps evenly.
    "mage": Preset(_of(32, 1e-4, 1024, timestep_sampling="uniform"), 4.0, 25),
    "boogu": Preset(_of(32, 1e-4, 1024, timestep_sampling="uniform"), 4.0, 25),
}
"""By the name of the family; others train with the defaults."""


@dataclass(frozen=True)
class Chosen:
    """The settings of a training, and where each that is no default comes from.

    Attributes:
        settings: What is trained with.
        origin: What the settings are of, in words.
        from_preset: Options that a preset has set, by name.
        stated: Options that the person has set, by name.
        guidance: Guidance scale of sample images that suits the family.
        steps: Their denoising steps.
        captions: How captions should be; None where that is not known.
        family: What people call the family whose preset it is.
    """

    settings: TrainingSettings
    origin: str
    from_preset: Mapping[str, Any] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    guidance: float = SAMPLE_GUIDANCE
    steps: int = SAMPLE_STEPS
    captions: CaptionStyle | None = None
    family: str = ""

    def with_samples(self, guidance: float | None, steps: int | None) -> Chosen:
        """Return the choice with what a person has set of sample images; None is not set."""
        given = {"sample_guidance": guidance, "sample_steps": steps}
        return replace(
            self,
            guidance=self.guidance if guidance is None else guidance,
            steps=self.steps if steps is None else steps,
            stated={**self.stated, **{k: v for k, v in given.items() if v is not None}},
        )

    def __str__(self) -> str:
        parts = [f"Settings: {self.origin}"]
        samples = {"sample_guidance": self.guidance, "sample_steps": self.steps}
        samples = {name: value for name, value in samples.items() if name not in self.stated}
        if self.family:
            parts.append(f": {_listed({**self.from_preset, **samples})}")
        if self.stated:
            parts.append(f"; set by you: {_listed(self.stated)}")
        return "".join(parts) + "."

    def to_mapping(self) -> dict[str, Any]:
        """Return the choice as JSON knows values."""
        return {
            "origin": self.origin,
            "from_preset": dict(self.from_preset),
            "set": {k: list(v) if isinstance(v, tuple) else v for k, v in self.stated.items()},
        }


def preset_names() -> tuple[str, ...]:
    """Return every name that :func:`choose` knows."""
    return (AUTO, *PRESETS, *FAMILY_PRESETS)


def choose(
    stated: Mapping[str, Any], preset: str | None = None, guess: Guess | None = None
) -> Chosen:
    """Return the settings of a training: what is stated, over what suits the model.

    Args:
        stated: Options that a person has set; they win.
        preset: ``auto``, the same as None: that of the model's family. Or the name of one: a
            family's, or one of :data:`.settings.PRESETS`, of which ``default`` is none.
        guess: Which family the model is of, for ``auto``.

    Raises:
        SettingsError: An option or the preset does not exist, or a value makes no sense.
    """
    if preset in PRESETS:
        settings = TrainingSettings.from_mapping(stated, preset)
        origin = "the defaults" if preset == "default" else f"preset {preset}"
        return Chosen(settings, origin, stated=dict(stated))
    if preset not in (None, AUTO):
        return _of_family(stated, str(preset), "as named")
    if guess is None or guess.family is None:
        reason = "the model is not known" if guess is None else guess.source
        settings = TrainingSettings.from_mapping(stated)
        return Chosen(settings, f"the defaults, for {reason}", stated=dict(stated))
    if guess.family.name not in FAMILY_PRESETS:
        settings = TrainingSettings.from_mapping(stated)
        return Chosen(
            settings, f"the defaults, for {guess.family.title} has no preset", stated=dict(stated)
        )
    return _of_family(stated, guess.family.name, guess.source)


def faults(stated: Mapping[str, Any], preset: str | None = None) -> dict[str, str]:
    """Return what is wrong with named values, and with the preset, a message by option."""
    try:
        choose(stated, preset)
    except SettingsError as error:
        return {name: error.faults[name] for name in (*stated, "preset") if name in error.faults}
    return {}


def _of_family(stated: Mapping[str, Any], name: str, source: str) -> Chosen:
    preset, family = FAMILY_PRESETS.get(name), named(name)
    if preset is None or family is None:
        message = f"No preset '{name}'. Choose one of: {', '.join(preset_names())}."
        raise SettingsError(message, {"preset": message})
    values = dict(preset.settings)
    if "rank" in stated and "alpha" not in stated:
        values["alpha"] = float(stated["rank"])  # the scale is the preset's, not its number
    own = {key: value for key, value in values.items() if key not in stated}
    settings = TrainingSettings.from_mapping({**own, **stated})
    return Chosen(
        settings,
        f"preset of {family.title} ({source})",
        own,
        dict(stated),
        preset.guidance,
        preset.steps,
        preset.captions,
        family.title,
    )


def caption_note(captions: Iterable[str], chosen: Chosen) -> str:
    """Say that captions are of another style than the family's own; nothing if they are not.

    Captions count as tags where most are lists of five and more short entries, as booru tags are.

    Args:
        captions: Of the training images.
        chosen: What suits the family.
    """
    if chosen.captions is None:
        return ""
    every = list(captions)
    tags = sum(_is_tags(caption) for caption in every)
    found: CaptionStyle = "tags" if 2 * tags > len(every) else "prose"
    if not every or found == chosen.captions:
        return ""
    are = {"tags": "lists of short entries", "prose": "sentences"}
    wanted = {"tags": "booru tags", "prose": "sentences"}
    return (
        f"Captions are {are[found]}, but {chosen.family} was trained on "
        f"{wanted[chosen.captions]}: it learns more from captions in its own style."
    )


def _is_tags(caption: str) -> bool:
    entries = [entry.split() for entry in caption.split(",") if entry.strip()]
    words = sum(map(len, entries))
    return len(entries) >= 5 and words <= 2.5 * len(entries) and ". " not in caption


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
