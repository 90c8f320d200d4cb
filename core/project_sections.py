"""The sections of a project file: every option of a stage, its default and its meaning, once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from .defaults import (
    DUPLICATE_SIMILARITY,
    MINIATURE_GUIDANCE,
    MINIMUM_CONFIDENCE,
    MINIMUM_FACE_SHARE,
    MINIMUM_FACE_SIDE,
    MINIMUM_QUALITY,
    CropFraming,
    FaceChoice,
    Formula,
)
from .errors import CuratorError
from .lora.families import Guess
from .options import Currency, Flag, Fraction, Model, Price, option
from .plan import MOST_IMAGES, PlanRules, Scenario, Seed, Subject
from .stores.addresses import is_address, shown
from .training.presets import Chosen, choose
from .training.settings import TrainingSettings


def _checked_quotas(quotas: tuple[str, ...]) -> tuple[str, ...]:
    """Return the quotas if each can be read."""
    from .selection.quotas import Quota

    for text in quotas:
        try:
            Quota.parse(text)
        except CuratorError as error:
            raise ValueError(str(error)) from error
    return quotas


def _stricter(model: type[Model], name: str, **limits: Any) -> Any:
    """Return a field that says the same as another model's, with limits of its own."""
    return Field(description=option(model, name).text, **limits)


class ProjectSection(Model):
    """What the project is called and where its results go."""

    name: str = Field(
        default="character", min_length=1, description="Names the dataset and the LoRA file."
    )
    output: str = Field(
        default="output",
        description="Folder for raw images, measurements and the dataset, relative to the project "
        "file.",
    )

    @field_validator("output")
    @classmethod
    def _is_a_folder(cls, output: str) -> str:
        if is_address(output):
            raise ValueError(
                f"{shown(output)} is an address, and measurements need a disk: name a folder, and "
                "put the dataset there with 'character-curator upload DATASET ADDRESS'"
            )
        return output


class ModelSection(Model):
    """The text-to-image model and how it samples."""

    path: str = Field(
        default="miniature",
        description="'miniature', a diffusers folder, a .safetensors file, or a model hub's id.",
    )
    config: str | None = Field(
        default=None,
        description="Of a .safetensors file: the diffusers folder, or the hub's id, that its "
        "configurations and tokenizers come from; what diffusers takes for it unless given.",
    )
    scheduler: str = Field(
        default="model",
        description="'model' takes the one that the model comes with; or ddim, euler, "
        "dpmpp_2m_karras, unipc and so on, or the name of a class of diffusers.",
    )
    steps: int = Field(default=20, ge=1, description="Denoising steps.")
    guidance: float = Field(default=MINIATURE_GUIDANCE, ge=0, description="Guidance scale.")
    width: int | None = Field(
        default=None, ge=8, description="In pixels; what suits the model unless given."
    )
    height: int | None = Field(
        default=None, ge=8, description="In pixels; what suits the model unless given."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Images sampled together.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="Number type of the weights."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, mps.")


class SubjectSection(Subject):
    """A character: a project that generates cannot do without its description."""

    name: str = _stricter(Subject, "name", default="char1", min_length=1)
    description: str = _stricter(Subject, "description", min_length=1)
    total: int | None = Field(
        default=None,
        ge=1,
        description="In a portfolio: how many images to select of this subject; as [selection] "
        "says unless given.",
    )
    quotas: tuple[str, ...] | None = Field(
        default=None,
        description="In a portfolio: the quotas on this subject's images; those of [selection] "
        "unless given.",
    )
    references: tuple[str, ...] | None = Field(
        default=None,
        description="In a portfolio: images of this subject, one face each; without them its "
        "identity is the centre of its own images.",
    )
    source: str | tuple[str, ...] | None = Field(
        default=None,
        description="In a portfolio: a folder of images of this subject, a zip file, or a list of "
        "these, in place of generated ones.",
    )
    unseen: str | tuple[str, ...] | None = Field(
        default=None,
        description="In the experiment augmentation: further images of this subject, which "
        "nothing is trained on; some of its source unless given.",
    )

    @field_validator("quotas")
    @classmethod
    def _can_be_read(cls, quotas: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return quotas if quotas is None else _checked_quotas(quotas)


class ScenarioSection(Scenario):
    """A situation to put every subject into (or, under originals, a plain reference image)."""

    name: str = _stricter(Scenario, "name", min_length=1)
    prompt: str = _stricter(Scenario, "prompt", min_length=1)


class PlanSection(PlanRules):
    """How many images, and how prompts and captions are put together."""

    seeds: tuple[Seed, ...] = _stricter(PlanRules, "seeds", min_length=1)


class WavesSection(Model):
    """Images are made in waves, where the selection is short, until another would not pay."""

    size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_IMAGES,
        description="Images of a wave; unless given 8, or two thirds of those to be chosen, in "
        "eights, where a quota counts what is measured, such as clusters.",
    )
    gain: Fraction = Field(
        default=0.003,
        description="It ends when the selection lacks nothing and another wave (two thirds of "
        "those to be chosen, at least) is expected to raise the mean quality of the chosen images "
        "by less than this.",
    )
    images: int | None = Field(
        default=None,
        ge=1,
        le=MOST_IMAGES,
        description="The most images in all, those that were there already included; as many as "
        "the plan has unless given.",
    )
    takes: int | None = Field(
        default=None,
        ge=1,
        description="The most images of each scenario and seed; as many as help unless given (the "
        "plan's takes are for runs without waves).",
    )


class FacesSection(Model):
    """What a valid face is."""

    pack: str = Field(
        default="miniature",
        description="'miniature', dlib, dlib-cnn, anime, an insightface pack (buffalo_l), or a "
        "folder of ONNX files; 'character-curator faces' lists them.",
    )
    references: tuple[str, ...] = Field(
        default=(),
        description="Images of the person; without them identity is measured against the set's "
        "own centre.",
    )
    minimum_confidence: Fraction = Field(
        default=MINIMUM_CONFIDENCE,
        description="Least confidence of the face, calibrated by the pack: 95 % of the faces in "
        "ordinary photographs reach 0.85.",
    )
    minimum_share: Fraction = Field(
        default=MINIMUM_FACE_SHARE,
        description="Least area of the face, as a share of the image's.",
    )
    minimum_side: float = Field(
        default=MINIMUM_FACE_SIDE,
        ge=0,
        description="Least width and height of the face in pixels.",
    )
    minimum_identity: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Least cosine similarity to the reference identity; unset, the pack's own "
        "where there are references, and only reported elsewhere and with 'miniature'.",
    )
    detection_size: int | None = Field(
        default=None,
        ge=32,
        le=8192,
        description="Side that images are fitted into for detection; what suits the pack unless "
        "given.",
    )
    choice: FaceChoice | None = Field(
        default=None,
        description="Of several faces: 'reject' leaves the image out, 'largest' takes the largest, "
        "'reference' the one of the references; unset, 'reference' where there are references and "
        "the pack is for photographs, else 'reject'.",
    )


class CropSection(Model):
    """Each image becomes the part of it around the person, before it is measured."""

    framing: CropFraming = Field(
        description="What of the person a crop shows, always with the whole head.",
    )
    aspect: str | None = Field(
        default=None,
        description="Width over height of the crops, such as 4:5 or 832:1216; what suits the "
        "framing (1:1, 4:5, 2:3, 1:2) unless given.",
    )
    impossible: Literal["whole", "reject"] | None = Field(
        default=None,
        description="Where an image shows too little for its crop: whole (unless given) keeps the "
        "image as it is, reject leaves it out.",
    )
    minimum_side: int | None = Field(
        default=None,
        ge=16,
        description="Least shorter side of a crop in pixels; any unless given.",
    )
    upscale: Flag | None = Field(
        default=None,
        description="Enlarge crops that are smaller than that, instead of not having them.",
    )

    @model_validator(mode="after")
    def _can_be_cut(self) -> CropSection:
        from .analysis.crop_boxes import AspectError, aspect_of

        try:
            aspect_of(self.aspect, self.framing)
        except AspectError as error:
            raise ValueError(str(error)) from error
        if self.upscale and not self.minimum_side:
            raise ValueError("upscale needs minimum_side: to what the crops are enlarged")
        return self


class BlemishesSection(Model):
    """What spoils an image as a whole; looked for before the faces."""

    bars: Fraction | None = Field(
        default=None,
        description="Most area that bars of one color at the edges may take, as a share of the "
        "image's, such as 0.02; not looked for unless given.",
    )
    cut_bars: Flag | None = Field(
        default=None,
        description="Cut the bars off where they take more than that (0.02 unless given), instead "
        "of leaving the images out.",
    )
    grids_from: Fraction | None = Field(
        default=None,
        description="Several images in one: from which share of a straight line from edge to edge, "
        "along which it steps, an image is rejected, such as 0.96; not looked for unless given.",
    )
    text: Fraction | None = Field(
        default=None,
        description="Most area that text and watermarks may take, as a share of the image's, such "
        "as 0.01; not looked for unless given. Needs the models of the package rapidocr.",
    )
    text_models: str | None = Field(
        default=None,
        description="A folder with PP-OCR's text detector (*det*.onnx) and recogniser "
        "(*rec*.onnx); those of the package rapidocr unless given.",
    )


class QualitySection(Model):
    """What a good image is."""

    minimum: Fraction = Field(default=MINIMUM_QUALITY, description="Least quality that is kept.")
    formula: Formula | None = Field(
        default=None,
        description="'calibrated' is measured on the face, 'seed-document' is the published "
        "formula on the whole image and the detector's own score; unset, 'seed-document' with "
        "'miniature' and 'calibrated' with any other pack.",
    )


class ClipSection(Model):
    """The model that embeds images."""

    model: str = Field(
        default="miniature",
        description="'miniature', an open_clip architecture (ViT-B-32), or a folder with its "
        "configuration.",
    )
    pretrained: str = Field(
        default="",
        description="The weights' tag (openai, laion2b_s34b_b79k) or file, for an architecture.",
    )


class ClustersSection(Model):
    """How images are grouped by what they show."""

    count: int = Field(default=8, ge=1, description="How many groups.")
    random_state: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Seed of KMeans: the same number gives the same groups.",
    )


class DuplicatesSection(Model):
    """When two images are the same image."""

    threshold: float = Field(
        default=DUPLICATE_SIMILARITY,
        gt=0,
        le=1,
        description="Similarity of embeddings from which on only one of two is taken.",
    )
    copies: Flag | None = Field(
        default=None,
        description="Also find copies among collected images by their pixels: mirrored, cropped "
        "a little, brighter, grey, marked. On unless given; generated images are never compared.",
    )


class SelectionSection(Model):
    """How many images are chosen, and how they are spread."""

    total: int = Field(default=70, ge=1, description="How many to select.")
    quotas: tuple[str, ...] = Field(
        default=(),
        description="'seed=7', 'cluster=8..10', 'kind=original:18,scenario:52', "
        "'pose=frontal:50%..', the most important first.",
    )
    decisions: str | None = Field(
        default=None,
        description="File of decisions (keep, veto) that report.html has saved; they come before "
        "every quota.",
    )

    @field_validator("quotas")
    @classmethod
    def _can_be_read(cls, quotas: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_quotas(quotas)


class PortfolioSection(Model):
    """Several subjects: a dataset of each and a combined one, instead of one of all."""

    margin: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="By how much an image must be nearer, in cosine similarity, to its own "
        "subject than to any other.",
    )
    price_per_hour: Price = None
    currency: Currency = "USD"


class DatasetSection(Model):
    """How the dataset presents itself."""

    license: str = Field(default="other", description="The licence's identifier, for the card.")
    captions: str = Field(
        default="trigger + what varies",
        description="'prompt', 'trigger + prompt', 'trigger + what varies', or a template of your "
        "own.",
    )
    resolution: int | None = Field(
        default=None,
        ge=64,
        description="What dataset.toml tells trainers; the images' own unless given.",
    )
    repeats: int = Field(default=1, ge=1, description="Repeats an epoch, for dataset.toml.")
    layout: Literal["flat", "kohya"] | None = Field(
        default=None,
        description="flat (unless given) puts all images beside each other; kohya into folders of "
        "repeats, trigger and class word, such as '10_char1 woman'.",
    )
    background: str | None = Field(
        default=None,
        description="What transparent pixels show: a color's name or #rrggbb; white unless given.",
    )
    alpha: Literal["background", "mask"] | None = Field(
        default=None,
        description="background (unless given) stores no transparency; mask keeps it as the mask "
        "of the loss, with alpha_mask in dataset.toml.",
    )
    max_side: int | None = Field(
        default=None,
        ge=64,
        description="Images with a longer side, in pixels, are scaled down to it.",
    )
    keep_formats: Flag | None = Field(
        default=None,
        description="Keep JPEG and WebP files as they are, where that shows the same pixels.",
    )
    masks: str | None = Field(
        default=None,
        description="A mask beside each image, for trainers that weigh the loss: face or head as "
        "measured, person or foreground by rembg, alpha of transparent images, beside for masks "
        "that lie beside the images, or a folder that holds them under the images' names.",
    )
    mask_layout: Literal["kohya", "onetrainer", "ai-toolkit"] | None = Field(
        default=None,
        description="Where masks lie: kohya (unless given) masks/NAME.png, onetrainer "
        "NAME-masklabel.png, ai-toolkit _controls/NAME.png.",
    )
    mask_model: str | None = Field(
        default=None,
        description="For person and foreground: rembg's name of another model, or an ONNX file of "
        "U-2-Net's kind in rembg's own folder.",
    )
    trigger: str | None = Field(
        default=None,
        description="The trigger word, put in front of captions that do not have it; the "
        "subjects' own, or that of folders such as '10_char1 woman', unless given.",
    )


class TrainingSection(Model):
    """A LoRA from the dataset. All further keys are options of ``TrainingSettings``."""

    model_config = ConfigDict(extra="allow")

    preset: str | None = Field(
        default=None,
        description="Settings to start from: auto (unless given), what suits the model's family; "
        "default; seed-document; or a family, such as sdxl. The options go over them.",
    )
    base: str = Field(
        default="", description="What is trained; the model that generates unless given."
    )
    base_config: str | None = Field(
        default=None, description="Of a base that is a .safetensors file: as config in [model]."
    )
    file: str = Field(
        default="",
        description="The LoRA file, relative to the output folder; lora/NAME.safetensors unless "
        "given.",
    )
    validation: str | None = Field(
        default=None,
        description="Folder of images to validate with, instead of a share of the dataset.",
    )
    prior: str | None = Field(default=None, description="Folder of prior-preservation images.")
    prior_caption: str | None = Field(
        default=None, description="The class prompt, for those of them that have no caption."
    )
    base_precision: Literal["as_is", "nf4", "int8"] = Field(
        default="as_is",
        description="What the frozen weights of the base model's blocks are held in.",
    )
    control_images: str | None = Field(
        default=None, description="Folder of control images, for an edit model."
    )
    masks: str | None = Field(
        default=None,
        description="Masks that weigh the loss: 'beside' for those that lie beside the images (or "
        "their transparency), or a folder that holds them under the images' names.",
    )
    prior_pictures: int = Field(
        default=0,
        ge=0,
        description="So many prior-preservation images are made with the base model, in the "
        "dataset's scenes, where no folder is given.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="What is sampled while it trains, and made with the finished LoRA; captions "
        "of the dataset unless given.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are options of the training."""
        return dict(self.model_extra or {})

    def settings(self) -> TrainingSettings:
        """Return every option of the training, as it is where the model's family is not known."""
        return self.chosen().settings

    def chosen(self, guess: Guess | None = None) -> Chosen:
        """Return every option of the training, and where it comes from.

        Args:
            guess: Which family the model is of.
        """
        return choose(self.options, self.preset, guess)
