"""Every option of a training run: its name, type, limits, default and one sentence, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..defaults import RECIPE_ALPHA, RECIPE_DROPOUT, RECIPE_RANK, SEED_DOCUMENT
from ..errors import CuratorError
from ..options import Flag, Fraction, Model, Number, Whole, option

if TYPE_CHECKING:
    from ..lora.adapters import LoraSettings

AdapterName = Literal["lora", "lokr", "loha"]
OptimizerName = Literal["adamw", "adamw8bit", "prodigy", "adafactor", "schedulefree"]
ScheduleName = Literal["constant", "cosine", "linear"]
LossName = Literal["mse", "huber", "smooth_l1"]
HuberSchedule = Literal["constant", "exponential", "snr"]
Precision = Literal["fp32", "bf16"]
CropMode = Literal["centre", "face"]
TimestepSampling = Literal["model", "uniform", "logit-normal"]
ResolutionShift = Literal["none", "flux", "qwen", "krea2", "ideogram4"]
BasePrecision = Literal["as_is", "nf4", "int8"]
"""What the frozen weights of a base model are held in."""
FileSpelling = Literal["auto", "kohya", "ai-toolkit", "diffusers"]

_Text = Annotated[str, Field(min_length=1)]
_Layers = _Text | Annotated[tuple[_Text, ...], Field(min_length=1)]
_Sides = Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)]
_Decay = Annotated[Number, Field(ge=0, lt=1)]


class SettingsError(CuratorError):
    """A training option has a value that makes no sense, or does not exist.

    Attributes:
        faults: What is wrong, by option; empty where it is no option's fault.
    """

    def __init__(self, message: str, faults: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.faults = dict(faults or {})

    @property
    def option(self) -> str:
        """The name of the first option at fault, or nothing."""
        return next(iter(self.faults), "")


class TrainingSettings(Model):
    """What a training run does. The defaults are sound for 20 to 200 images of one character.

    Raises:
        SettingsError: A value is out of its range; the message names the option.

    Example:
        >>> TrainingSettings(rank=8, schedule="cosine", steps=400).learning_rate
        0.0001
        >>> TrainingSettings(dora=1)
        Traceback (most recent call last):
        character_curator.training.settings.SettingsError: dora is 1: say true or false.
    """

    adapter: AdapterName = Field(
        default="lora",
        description="What is added to a weight: lora, or lokr or loha of LyCORIS (a Kronecker or "
        "an elementwise product of small factors).",
    )
    rank: Whole = Field(default=16, ge=1, le=2**17, description="Rank of the adapters.")
    alpha: Number = Field(
        default=16.0,
        gt=0,
        description="Scale of the adapters: alpha / rank, with rsLoRA alpha / sqrt(rank).",
    )
    targets: _Layers = Field(
        default="attention",
        description="Layers that carry adapters: seed-document (queries, values), attention, "
        "full, or ends or patterns of their names.",
    )
    dropout: Number = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of an adapter's inputs that a step drops; of LoKr and LoHa, of its "
        "outputs.",
    )
    rslora: Flag = Field(default=False, description="Rank-stabilised scale (arXiv 2312.03732).")
    dora: Flag = Field(default=False, description="Weight-decomposed adapters (arXiv 2402.09353).")
    lokr_factor: Whole | None = Field(
        default=None,
        ge=1,
        description="LoKr: the sides of its first factor; nearest to the square root of a "
        "layer's if None.",
    )
    lokr_decompose_both: Flag = Field(
        default=False,
        description="LoKr: the first factor is of the rank too, not the second alone.",
    )
    train_text_encoder: Flag = Field(
        default=False,
        description="Also adapt the text encoders; captions are then encoded in every step.",
    )
    text_learning_rate: Number | None = Field(
        default=None,
        ge=0,
        description="Of the text encoders' adapters; the general one if None.",
    )

    epochs: Whole = Field(default=100, ge=1, description="Passes over the training images.")
    steps: Whole | None = Field(
        default=None,
        ge=1,
        description="Optimizer steps in all, where given instead of epochs; the last epoch may be "
        "cut.",
    )
    batch_size: Whole = Field(default=1, ge=1, description="Images in one forward pass.")
    accumulation: Whole = Field(
        default=1,
        ge=1,
        description="Batches in one optimizer step. Gradients are those of one batch of all their "
        "images.",
    )
    learning_rate: Number = Field(
        default=1e-4,
        gt=0,
        description="Peak learning rate; Prodigy wants 1.",
    )
    optimizer: OptimizerName = Field(
        default="adamw",
        description="adamw; adafactor, which keeps hardly any state and knows no betas; or with "
        "their libraries adamw8bit, prodigy, and schedulefree (AdamW that averages instead).",
    )
    weight_decay: Number = Field(default=0.01, ge=0, description="Decoupled weight decay.")
    betas: tuple[_Decay, _Decay] = Field(
        default=(0.9, 0.999),
        description="Decay of the first and second moment.",
    )
    schedule: ScheduleName = Field(
        default="constant",
        description="Course of the learning rate after the warm-up.",
    )
    warm_up: Whole = Field(default=0, ge=0, description="Optimizer steps of the linear rise.")
    clip_norm: Number | None = Field(
        default=1.0,
        ge=0,
        description="Largest norm of the gradient; None leaves it be.",
    )

    resolution: Whole = Field(
        default=512,
        ge=1,
        description="Side of a square of a bucket's area, in pixels.",
    )
    resolutions: _Sides | None = Field(
        default=None,
        description="Several of these in one run, such as 512 768 1024, in place of resolution: an "
        "epoch shows each image at each.",
    )
    bucket_step: Whole = Field(
        default=64,
        ge=1,
        description="Sides of buckets are multiples of this.",
    )
    upscale: Flag = Field(
        default=False,
        description="Enlarge images that are smaller than their bucket instead of giving them a "
        "smaller one.",
    )
    crop: CropMode = Field(
        default="face",
        description="Where an image is cut to its bucket: centre, or face around the known face.",
    )
    repeats: Whole = Field(default=1, ge=1, description="How often an epoch shows an image.")

    loss: LossName = Field(
        default="mse",
        description="What an error counts: its square, or from huber_delta on linearly, so that "
        "faults of the dataset pull less. The validation loss stays mse.",
    )
    huber_delta: Number = Field(
        default=0.1,
        gt=0,
        description="From which error on huber and smooth_l1 are linear (huber_c of sd-scripts).",
    )
    huber_schedule: HuberSchedule = Field(
        default="constant",
        description="Course of huber_delta: from 1 without noise down to it by the timestep "
        "(exponential), or by the noise's share (snr; not for flows).",
    )
    min_snr_gamma: Number | None = Field(
        default=None,
        gt=0,
        description="Cap of the signal-to-noise ratio in the loss weights (arXiv 2303.09556), 5 "
        "as published.",
    )
    noise_offset: Number = Field(
        default=0.0,
        ge=0,
        description="Strength of the noise that is constant over a channel.",
    )
    face_weight: Number = Field(
        default=1.0,
        ge=0,
        description="Weight of a pixel of the face against one beside it; 1 leaves the face "
        "unweighted.",
    )
    unmasked_weight: Fraction = Field(
        default=0.1,
        description="Where images have masks: weight of a pixel outside of its mask against one "
        "inside; 0 learns nothing of it, 1 leaves masks without effect.",
    )
    prior_weight: Number = Field(
        default=1.0,
        ge=0,
        description="Weight of a prior-preservation image against one of the subject.",
    )
    caption_dropout: Number = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of captions that are replaced by the empty one.",
    )

    precision: Precision = Field(
        default="fp32",
        description="bf16: forward passes under autocast; adapters and optimizer stay in 32 bits.",
    )
    gradient_checkpointing: Flag = Field(
        default=False,
        description="Compute activations twice to hold fewer of them.",
    )
    checkpointing_share: Number = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the model's blocks, the first ones, that gradient checkpointing is "
        "for.",
    )
    block_swap: Whole = Field(
        default=0,
        ge=0,
        description="Blocks, the last ones, whose frozen weights are on the card only while they "
        "compute.",
    )
    shard_base: Flag = Field(
        default=False,
        description="Several processes (accelerate launch) hold a part of the frozen weights of "
        "the blocks each, and samples are left out.",
    )
    ema_decay: Number | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Decay of an average of the weights, which is then what is validated and kept.",
    )

    validation_share: Number = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of images held out, one at least; 0 trains on all and validates "
        "nothing.",
    )
    validation_timesteps: Whole = Field(
        default=8,
        ge=1,
        description="How many fixed timesteps a held-out image is seen at.",
    )
    validate_every: Whole = Field(
        default=1,
        ge=1,
        description="Epochs from one validation to the next.",
    )
    patience: Whole | None = Field(
        default=None,
        ge=1,
        description="Stop after so many validations without a lower loss; None trains to the end.",
    )
    min_improvement: Number = Field(
        default=1e-3,
        ge=0,
        description="What counts as lower: by this share of the lowest so far.",
    )
    plateau_tolerance: Number = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the whole improvement that may be missing at the epoch of "
        "convergence.",
    )

    save_every: Whole | None = Field(
        default=None,
        ge=1,
        description="Optimizer steps from one resumable state to the next; the end of an epoch "
        "always saves.",
    )
    checkpoint_every: Whole | None = Field(
        default=None,
        ge=1,
        description="Epochs from one kept checkpoint to the next; None keeps the best and the "
        "last.",
    )
    sample_every: Whole | None = Field(
        default=None,
        ge=1,
        description="Epochs from one set of sample images to the next.",
    )
    seed: Whole = Field(
        default=0,
        ge=0,
        description="Of the data order, the noise, the dropout and the adapters' first weights.",
    )
    deterministic: Flag = Field(
        default=False,
        description="On CUDA: only kernels with reproducible results, which costs speed.",
    )

    timestep_sampling: TimestepSampling = Field(
        default="model",
        description="How timesteps are drawn: uniform, logit-normal (flows alone), or model: the "
        "first for UNets, the second for flows.",
    )
    timestep_shift: Number = Field(
        default=1.0,
        gt=0,
        description="How far a flow's timesteps are moved towards noise; 1 leaves them.",
    )
    timestep_spread: Number = Field(
        default=1.0,
        gt=0,
        description="Standard deviation of logit-normal timesteps.",
    )
    resolution_shift: ResolutionShift = Field(
        default="none",
        description="Whose shift by the number of pixels a flow's timesteps take besides.",
    )
    file_spelling: FileSpelling = Field(
        default="auto",
        description="How the file names layers: auto as ComfyUI and diffusers both read it, or as "
        "kohya, ai-toolkit or diffusers does.",
    )
    base_model_version: _Text | None = Field(
        default=None,
        description="What the file's header calls its base model, such as sdxl_pony; None reads "
        "the model and its name.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, values: Any, check: Callable[[Any], TrainingSettings]) -> TrainingSettings:
        """Say what is wrong in the words of the options."""
        try:
            made = check(values)
        except ValidationError as error:
            faults = _faults(error, values if isinstance(values, Mapping) else {})
            raise SettingsError(" ".join(faults.values()), faults) from error
        contradictions = _contradictions(made)
        if contradictions:
            raise SettingsError(" ".join(contradictions.values()), contradictions)
        return made

    @property
    def sides(self) -> tuple[int, ...]:
        """The resolutions that images are trained at, each once, ascending."""
        return tuple(sorted(set(self.resolutions or (self.resolution,))))

    def adapters(self) -> LoraSettings:
        """Return the part of the settings that adapters are made from.

        Raises:
            AdapterError: There is no preset of layers of that name.
        """
        from ..lora.adapters import LoraSettings

        return LoraSettings(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets,
            rslora=self.rslora,
            dora=self.dora,
            text_encoder=self.train_text_encoder,
            kind=self.adapter,
            factor=self.lokr_factor,
            decompose_both=self.lokr_decompose_both,
        )

    @staticmethod
    def from_mapping(values: Mapping[str, Any], preset: str | None = None) -> TrainingSettings:
        """Make settings from named values over a preset's, or over the defaults.

        Raises:
            SettingsError: An option or the preset does not exist, or a value makes no sense.
        """
        base = PRESETS.get(preset or "default")
        if base is None:
            message = f"No preset '{preset}'. Choose one of: {', '.join(PRESETS)}."
            raise SettingsError(message, {"preset": message})
        return base.replace(**values)

    @staticmethod
    def faults(values: Mapping[str, Any], preset: str | None = None) -> dict[str, str]:
        """Return what is wrong with named values, a message by option; empty if nothing is."""
        try:
            TrainingSettings.from_mapping(values, preset)
        except SettingsError as error:
            return {
                name: error.faults[name] for name in (*values, "preset") if name in error.faults
            }
        return {}

    def to_mapping(self) -> dict[str, Any]:
        """Return every option by name, as JSON and TOML know values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self}

    def recorded(self) -> dict[str, Any]:
        """Return the options that are written down: those of :data:`LATER` where they are set.

        What was trained before an option existed keeps its key, its state and its bytes.
        """
        fields = TrainingSettings.model_fields
        return {
            name: value
            for name, value in self.to_mapping().items()
            if name not in LATER or value != fields[name].default
        }


def _faults(error: ValidationError, values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with each of some values, and what the option may be."""
    found: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0])
        if fault["type"] == "extra_forbidden":
            known = ", ".join(sorted(TrainingSettings.model_fields))
            found[name] = f"No training option '{name}'. Options are: {known}."
        else:
            allowed = option(TrainingSettings, name).allowed
            found[name] = f"{name} is {values.get(name)!r}: {allowed}."
    return found


LATER = frozenset({
    "file_spelling", "base_model_version", "resolutions", "timestep_sampling", "timestep_shift",
    "timestep_spread", "resolution_shift", "checkpointing_share", "block_swap", "adapter",
    "lokr_factor", "lokr_decompose_both", "loss", "huber_delta", "huber_schedule",
    "unmasked_weight", "shard_base",
})  # fmt: skip
"""Options that files and folders of earlier versions know nothing of."""


def _contradictions(settings: TrainingSettings) -> dict[str, str]:
    """Return what can't be had together, by the option that has to give way."""
    found: dict[str, str] = {}
    for name in ("rslora", "dora"):
        if getattr(settings, name) and settings.adapter != "lora":
            found[name] = f"{name} is of LoRA alone: leave it out, or set adapter to lora."
    if settings.optimizer == "schedulefree":
        averages = "the optimizer schedulefree averages its weights itself"
        if settings.schedule != "constant":
            found["schedule"] = f"schedule is {settings.schedule!r}, and {averages}: constant."
        if settings.ema_decay is not None:
            found["ema_decay"] = f"ema_decay is {settings.ema_decay}, and {averages}: none."
        if settings.betas[0] == 0:
            found["betas"] = f"betas begin with 0, and {averages} by the first: above 0."
    return found


PRESETS: dict[str, TrainingSettings] = {
    "default": TrainingSettings(),
    SEED_DOCUMENT: TrainingSettings(
        rank=RECIPE_RANK,
        alpha=RECIPE_ALPHA,
        targets=SEED_DOCUMENT,
        dropout=RECIPE_DROPOUT,
        learning_rate=1e-4,
        epochs=100,
        batch_size=1,
        clip_norm=None,
        crop="centre",
    ),
}
"""Settings by name. ``seed-document`` is the document's recipe: what it does not name (no clipping,
no warm-up, one image a step) is as its loop has it."""
