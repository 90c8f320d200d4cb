"""Every option of a training run, as plain data."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import CuratorError

if TYPE_CHECKING:
    from ..lora.adapters import LoraSettings

OptimizerName = Literal["adamw", "adamw8bit", "prodigy"]
ScheduleName = Literal["constant", "cosine", "linear"]
Precision = Literal["fp32", "bf16"]
CropMode = Literal["centre", "face"]


class SettingsError(CuratorError):
    """A training option has a value that makes no sense, or does not exist.

    Attributes:
        option: Its name, where it is one option's fault.
    """

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run does. The defaults are sound for 20 to 200 images of one character.

    Raises:
        SettingsError: A value is out of its range; the message names the option.

    Example:
        >>> TrainingSettings(rank=8, schedule="cosine", steps=400).learning_rate
        0.0001
        >>> TrainingSettings(rank=0)
        Traceback (most recent call last):
        character_curator.training.settings.SettingsError: rank is 0: give a number, 1 or more.
    """

    rank: int = 16
    """Rank of the adapters."""
    alpha: float = 16.0
    """Scale of the adapters: alpha / rank, with rsLoRA alpha / sqrt(rank)."""
    targets: str | tuple[str, ...] = "attention"
    """Layers that carry adapters: ``seed-document`` (to_q, to_v), ``attention``, ``full``, or ends
    of their names."""
    dropout: float = 0.0
    """Share of an adapter's inputs that a step drops."""
    rslora: bool = False
    """Rank-stabilised scale (arXiv 2312.03732)."""
    dora: bool = False
    """Weight-decomposed adapters (arXiv 2402.09353)."""
    train_text_encoder: bool = False
    """Also adapt the text encoders; captions are then encoded in every step."""
    text_learning_rate: float | None = None
    """Of the text encoders' adapters; the general one if ``None``."""

    epochs: int = 100
    """Passes over the training images."""
    steps: int | None = None
    """Optimizer steps in all, where given instead of ``epochs``; the last epoch may be cut."""
    batch_size: int = 1
    """Images in one forward pass."""
    accumulation: int = 1
    """Batches in one optimizer step. Gradients are those of one batch of all their images."""
    learning_rate: float = 1e-4
    """Peak learning rate; Prodigy wants 1."""
    optimizer: OptimizerName = "adamw"
    """``adamw``, or with their libraries ``adamw8bit`` and ``prodigy``."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment."""
    schedule: ScheduleName = "constant"
    """Course of the learning rate after the warm-up."""
    warm_up: int = 0
    """Optimizer steps of the linear rise."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient; ``None`` leaves it be."""

    resolution: int = 512
    """Side of a square of a bucket's area, in pixels."""
    bucket_step: int = 64
    """Sides of buckets are multiples of this."""
    upscale: bool = False
    """Enlarge images that are smaller than their bucket instead of giving them a smaller one."""
    crop: CropMode = "face"
    """Where an image is cut to its bucket: ``centre``, or ``face`` around the known face."""
    repeats: int = 1
    """How often an epoch shows an image."""

    min_snr_gamma: float | None = None
    """Cap of the signal-to-noise ratio in the loss weights (arXiv 2303.09556), 5 as published."""
    noise_offset: float = 0.0
    """Strength of the noise that is constant over a channel."""
    face_weight: float = 1.0
    """Weight of a pixel of the face against one beside it; 1 leaves the face unweighted."""
    prior_weight: float = 1.0
    """Weight of a prior-preservation image against one of the subject."""
    caption_dropout: float = 0.0
    """Share of captions that are replaced by the empty one."""

    precision: Precision = "fp32"
    """``bf16``: forward passes under autocast; adapters and optimizer stay in 32 bits."""
    gradient_checkpointing: bool = False
    """Compute activations twice to hold fewer of them."""
    ema_decay: float | None = None
    """Decay of an average of the weights, which is then what is validated and kept."""

    validation_share: float = 0.1
    """Share of images held out, one at least; 0 trains on all and validates nothing."""
    validation_timesteps: int = 8
    """How many fixed timesteps a held-out image is seen at."""
    validate_every: int = 1
    """Epochs from one validation to the next."""
    patience: int | None = None
    """Stop after so many validations without a lower loss; ``None`` trains to the end."""
    min_improvement: float = 1e-3
    """What counts as lower: by this share of the lowest so far."""
    plateau_tolerance: float = 0.05
    """Share of the whole improvement that may be missing at the epoch of convergence."""

    save_every: int | None = None
    """Optimizer steps from one resumable state to the next; the end of an epoch always saves."""
    checkpoint_every: int | None = None
    """Epochs from one kept checkpoint to the next; ``None`` keeps the best and the last."""
    sample_every: int | None = None
    """Epochs from one set of sample images to the next."""
    seed: int = 0
    """Of the data order, the noise, the dropout and the adapters' first weights."""
    deterministic: bool = False
    """On CUDA: only kernels with reproducible results, which costs speed."""

    def __post_init__(self) -> None:
        for name in ("targets", "betas"):  # from JSON and TOML they come as lists
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))
        self._check_choices()
        for name in _FROM_1:
            self._check(name, 1, math.inf)
        for name in _FROM_0:
            self._check(name, 0, math.inf)
        for name in _SHARES:
            self._check(name, 0, 1)
        names = (self.targets,) if isinstance(self.targets, str) else self.targets
        if not names or not all(isinstance(name, str) and name for name in names):
            raise SettingsError(
                "targets is empty: name at least one layer, for instance 'to_q'.", "targets"
            )
        for name in ("validation_share", "dropout"):
            if getattr(self, name) >= 1:
                raise SettingsError(f"{name} must be below 1.", name)
        pair = isinstance(self.betas, tuple) and len(self.betas) == 2
        if not pair or not all(_is_number(b) and 0 <= b < 1 for b in self.betas):
            raise SettingsError(
                f"betas is {self.betas}: give two numbers from 0 up to below 1.", "betas"
            )
        for name in ("learning_rate", "alpha", "min_snr_gamma"):
            if getattr(self, name) == 0:
                raise SettingsError(f"{name} must be above 0.", name)

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
        )

    def _check(self, name: str, lowest: float, highest: float) -> None:
        value = getattr(self, name)
        if value is None and name in OPTIONAL:
            return
        if not _is_number(value) or not lowest <= value <= highest:
            limits = f"from {lowest} to {highest}" if highest < math.inf else f"{lowest} or more"
            raise SettingsError(f"{name} is {value!r}: give a number, {limits}.", name)
        if name in WHOLE and int(value) != value:
            raise SettingsError(f"{name} is {value!r}: give a whole number.", name)

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}.", name
                )
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is {getattr(self, name)!r}: say true or false.", name)

    @staticmethod
    def from_mapping(values: Mapping[str, Any], preset: str | None = None) -> TrainingSettings:
        """Make settings from named values over a preset's, or over the defaults.

        Raises:
            SettingsError: An option or the preset does not exist, or a value makes no sense.
        """
        base = PRESETS.get(preset or "default")
        if base is None:
            raise SettingsError(
                f"No preset '{preset}'. Choose one of: {', '.join(PRESETS)}.", "preset"
            )
        known = {field.name for field in fields(TrainingSettings)}
        for name in values:
            if name not in known:
                raise SettingsError(
                    f"No training option '{name}'. Options are: {', '.join(sorted(known))}.", name
                )
        return replace(base, **values)

    @staticmethod
    def faults(values: Mapping[str, Any], preset: str | None = None) -> dict[str, str]:
        """Return what is wrong with named values, a message by option; empty if nothing is."""
        try:
            TrainingSettings.from_mapping({}, preset)
        except SettingsError as error:
            return {"preset": str(error)}
        found = {}
        for name, value in values.items():
            try:
                TrainingSettings.from_mapping({name: value}, preset)
            except SettingsError as error:
                found[name] = str(error)
        return found

    def to_mapping(self) -> dict[str, Any]:
        """Return every option by name, as JSON and TOML know values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def descriptions() -> dict[str, str]:
    """Return what each option is, in the words beside it here; empty where sources are absent."""
    try:
        tree = ast.parse(inspect.getsource(TrainingSettings))
    except (OSError, SyntaxError):
        return {}
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(text.value.value.replace("``", "").split())  # type: ignore[union-attr,attr-defined]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


FLAGS = (
    "rslora", "dora", "train_text_encoder", "upscale", "gradient_checkpointing", "deterministic",
)  # fmt: skip
"""Options that are true or false."""
CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "precision": get_args(Precision),
    "crop": get_args(CropMode),
}
_FROM_1 = (
    "rank", "epochs", "steps", "batch_size", "accumulation", "resolution", "bucket_step", "repeats",
    "validation_timesteps", "validate_every", "patience", "save_every", "checkpoint_every",
    "sample_every",
)  # fmt: skip
_FROM_0 = (
    "alpha", "learning_rate", "text_learning_rate", "weight_decay", "warm_up", "clip_norm",
    "min_snr_gamma", "noise_offset", "face_weight", "prior_weight", "min_improvement", "seed",
)  # fmt: skip
_SHARES = ("dropout", "caption_dropout", "ema_decay", "validation_share", "plateau_tolerance")
OPTIONAL = frozenset({
    "text_learning_rate", "clip_norm", "min_snr_gamma", "ema_decay", "patience", "save_every",
    "checkpoint_every", "sample_every", "steps",
})  # fmt: skip
WHOLE = frozenset({*_FROM_1, "warm_up", "seed"})

PRESETS: dict[str, TrainingSettings] = {
    "default": TrainingSettings(),
    "seed-document": TrainingSettings(
        rank=8,
        alpha=8.0,
        targets="seed-document",
        dropout=0.05,
        learning_rate=1e-4,
        epochs=100,
        batch_size=1,
        clip_norm=None,
        crop="centre",
    ),
}
"""Settings by name. ``seed-document`` is the published recipe: what it does not name (no clipping,
no warm-up, one image a step) is as its loop has it."""
