"""Parts of the training nodes that need no ComfyUI."""

import dataclasses
from pathlib import Path

import pytest

from tests.support.comfyui.pack import core, part
from tests.support.comfyui.portraits import draw_folder

WIDGETS = {
    "rank": 32, "alpha": 16.0, "learning_rate": 5e-4, "epochs": 7, "steps": 0, "batch_size": 3,
    "resolution": 768, "targets": "full", "train_text_encoder": False, "seed": 4,
    "validation_share": 0.2, "sample_every": 0,
}  # fmt: skip


def chosen(preset="as set here", options="", guess=None, **changes):
    return part("train.settings").training_settings(preset, {**WIDGETS, **changes}, options, guess)


def settings(preset="as set here", options="", **changes):
    return chosen(preset, options, **changes).settings


def test_widgets_are_settings():
    made = settings()
    assert (made.rank, made.epochs, made.targets, made.seed) == (32, 7, "full", 4)
    assert made.steps is None
    assert made.sample_every is None
    assert settings(steps=50).steps == 50


def test_the_recipe_goes_before_the_widgets_that_it_names_and_before_no_other():
    made = settings("seed-document")
    recipe = (made.rank, made.alpha, made.targets, made.dropout, made.learning_rate, made.epochs)
    assert recipe == (8, 8.0, "seed-document", 0.05, 1e-4, 100)
    assert made.batch_size == 1
    assert (made.resolution, made.seed, made.validation_share) == (768, 4, 0.2)


def test_options_go_before_everything():
    made = settings("seed-document", "rank = 4\ndora = true\n# a comment\nschedule = 'cosine'")
    assert (made.rank, made.dora, made.schedule, made.alpha) == (4, True, "cosine", 8.0)


DEFAULTS = {
    "rank": 16, "alpha": 16.0, "learning_rate": 1e-4, "epochs": 100, "steps": 0, "batch_size": 1,
    "resolution": 512, "targets": "attention", "train_text_encoder": False, "seed": 0,
    "validation_share": 0.1, "sample_every": 10,
}  # fmt: skip
"""What a node has that was just placed."""


def sdxl():
    return core("lora.families").recognised("stable-diffusion-xl-v1-base")


def test_a_new_node_follows_the_model():
    made = chosen("auto", "", sdxl(), **DEFAULTS)
    values = (made.settings.rank, made.settings.resolution, made.settings.min_snr_gamma)
    assert values == (32, 1024, 5.0)
    assert made.settings.sample_every == 10
    assert made.stated == {}
    assert "SDXL" in str(made)


def test_a_widget_that_is_set_goes_before_the_preset_and_options_before_both():
    made = chosen("auto", "resolution = 768", sdxl(), **{**DEFAULTS, "rank": 8})
    assert (made.settings.rank, made.settings.alpha, made.settings.resolution) == (8, 8.0, 768)
    assert made.settings.min_snr_gamma == 5.0
    assert dict(made.stated) == {"rank": 8, "resolution": 768}
    assert "set by you: rank 8, resolution 768" in str(made)


def test_as_set_here_takes_every_widget_as_it_is_whatever_the_model():
    made = chosen("as set here", "", sdxl(), **DEFAULTS)
    assert (made.settings.rank, made.settings.resolution) == (16, 512)
    assert made.settings.min_snr_gamma is None


def test_a_family_is_chosen_by_hand():
    assert chosen("qwen-image", "", sdxl(), **DEFAULTS).settings.timestep_shift == 2.2


@pytest.mark.parametrize(
    ("preset", "cfg", "guidance", "said"),
    [("auto", 4.0, 6.0, False), ("auto", 4.5, 4.5, True), ("as set here", 4.0, 4.0, False)],
)
def test_samples_follow_the_preset_unless_they_are_set(preset, cfg, guidance, said):
    parts = part("train.settings")
    made = parts.with_samples(chosen(preset, "", sdxl(), **DEFAULTS), preset, 20, cfg)
    assert parts.sample_settings("", made).guidance == guidance
    assert ("set by you: sample_guidance" in str(made)) == said
    assert parts.sample_settings("", made).steps == (20 if preset == "as set here" else 25)


def test_the_widget_offers_the_model_first_and_keeps_what_saved_graphs_say():
    choices = part("train.settings").preset_choices()
    assert choices[:3] == ["auto", "as set here", "seed-document"]
    assert "sdxl" in choices


@pytest.mark.parametrize(
    ("options", "says"),
    [("dora: yes", "Write one a line"), ("drop = 1", "'drop'"), ("rank = 0", "rank")],
)
def test_wrong_options_are_told(options, says):
    assert says in part("train.settings").faults(options)


def test_right_options_have_no_faults():
    assert part("train.settings").faults("patience = 3\nrslora = true") is None


def test_buckets_suit_the_model():
    fit = part("train.settings").with_room_for
    assert fit(settings(), 32).bucket_step == 64
    assert fit(settings(), 128).bucket_step == 128
    assert fit(settings(resolution=128), 128).bucket_step == 128
    assert fit(settings(options="bucket_step = 16"), 64).bucket_step == 64


def course(**changes):
    examples = [
        core("training.data.examples").Example(Path("a.png"), "hash", "a caption", (64, 64))
    ]
    return core("training.finished").course_key("model", examples, settings(**changes))


def test_a_longer_training_goes_on_in_the_same_folder():
    assert course() == course(epochs=9) == course(sample_every=2)


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-3}, {"seed": 5}, {"options": "schedule = 'cosine'"}]
)
def test_another_training_gets_another_folder(changes):
    assert course() != course(**changes)


def test_others_of_the_class_make_another_training():
    alone = [core("training.data.examples").Example(Path("a.png"), "hash", "a caption", (64, 64))]
    key = core("training.finished").course_key
    other = core("training.data.examples").Example(Path("b.png"), "other", "a woman", (64, 64))
    [prior] = core("training.data.examples").as_prior([other])
    keys = {key("model", images, settings()) for images in (
        alone, [*alone, prior], [*alone, other],
    )}  # fmt: skip
    assert len(keys) == 3


def job(tmp_path, prior_caption):
    """A job on portraits of the character, with others of a caption."""
    draw_folder(tmp_path / "faces", 3)
    others = draw_folder(tmp_path / "others", 2, seed=1)
    for path in others.glob("*.txt"):
        path.write_text(prior_caption)
    return core("training.job").LoraJob(
        tmp_path / "faces", tmp_path / "a.safetensors", trigger="char1", prior=others
    )


def test_others_of_the_class_are_read_as_such(tmp_path):
    images = part("train.images").checked_images(job(tmp_path, "portrait of a woman"))
    examples, facts = [*images.examples, *images.prior], images.facts
    assert [example.prior for example in examples] == [False] * 3 + [True] * 2
    assert facts.trigger == "char1"
    assert sum(facts.captions.values()) == 3


def test_others_must_not_be_called_by_the_trigger_word(tmp_path):
    images = part("train.images")
    with pytest.raises(images.PriorNamesCharacterError, match="2 of its 2 captions"):
        images.checked_images(job(tmp_path, "portrait of char1 woman"))


def test_the_length_matters_where_the_rate_depends_on_it():
    options = {"options": "schedule = 'linear'"}
    assert course(**options) != course(**options, epochs=9)


def character(**values):
    return core("evaluation.character").Character("char1", "woman", **values)


def test_no_prompts_are_the_published_three_with_three_seeds_each():
    found = part("evaluate.texts").prompts_of("\n", "1-2", character())
    assert [prompt.seeds for prompt in found] == [(100, 101, 102), (200, 201, 202), (300, 301, 302)]


def test_a_prompt_names_the_person_by_placeholder_or_by_trigger():
    text = "portrait of {who}, park\nchar1 woman at a bar\n"
    found = part("evaluate.texts").prompts_of(text, "1-2, 7", character())
    assert [prompt.text for prompt in found] == ["portrait of {who}, park", "{who} at a bar"]
    assert found[0].seeds == (1, 2, 7)


def test_the_character_is_the_plans_the_files_or_the_users():
    texts = part("evaluate.texts")
    assert texts.character_of(character(), None, "zoe woman", "", "").trigger == "zoe"
    subject = core("plan").Subject(
        name="x", description="red hair", trigger="ana", class_word="girl"
    )
    scene = core("plan").Scenario(number=1, name="park", prompt="in the park")
    plan = core("plan").Plan(subjects=(subject,), seeds=(1,), scenarios=(scene,))
    other = texts.character_of(character(), plan, "zoe", "", "")
    assert (other.trigger, other.class_word, other.description) == ("ana", "girl", "red hair")
    own = texts.character_of(character(), plan, "zoe", "eve", "robot")
    assert (own.trigger, own.class_word) == ("eve", "robot")


def test_every_fact_of_an_image_belongs_to_the_course_and_the_order_does_not():
    example = core("training.data.examples").Example
    one, two = (example(Path(f"{n}.png"), n, "a caption", (64, 64)) for n in "ab")
    key = core("training.finished").course_key
    plain = key("model", [one, two], settings())
    assert key("model", [two, one], settings()) == plain
    for changed in ({"hash": "c"}, {"caption": "another"}, {"face": (1.0, 2.0, 30.0, 40.0)}):
        assert key("model", [dataclasses.replace(one, **changed), two], settings()) != plain
    assert key("other", [one, two], settings()) != plain
    assert key("model", [dataclasses.replace(one, path=Path("z.png")), two], settings()) == plain


def shown(*values):
    """An IMAGE of one color each."""
    import torch

    return torch.stack([torch.full((8, 6, 3), value / 255) for value in values])


def read(tmp_path):
    job = core("training.job").LoraJob(
        draw_folder(tmp_path / "faces", 3), tmp_path / "a.safetensors"
    )
    return part("train.images").checked_images(job)


def test_one_reference_image_is_for_all_and_several_are_in_the_order_of_the_files(tmp_path):
    from PIL import Image

    images = read(tmp_path)
    give = part("train.images").with_references
    one = give(images, shown(7), tmp_path / "references")
    assert len({e.controls for e in one.examples}) == 1
    each = give(images, shown(10, 20, 255), tmp_path / "references")
    files = [Image.open(e.controls[0].path) for e in each.examples]
    assert [file.getpixel((0, 0)) for file in files] == [(10,) * 3, (20,) * 3, (255,) * 3]
    assert [file.size for file in files] == [(6, 8)] * 3
    assert give(images, shown(7), tmp_path / "elsewhere").examples[0].controls[0].hash == (
        one.examples[0].controls[0].hash
    )


def test_another_number_of_reference_images_is_refused(tmp_path):
    with pytest.raises(part("train.images").ReferenceCountError, match=r"2 images.* 3 that"):
        part("train.images").with_references(read(tmp_path), shown(1, 2), tmp_path)


def test_reference_images_make_another_training(tmp_path):
    images = read(tmp_path)
    key = core("training.finished").course_key
    found = {
        key(
            "model",
            part("train.images").with_references(images, batch, tmp_path).examples,
            settings(),
        )
        for batch in (shown(1), shown(2))
    } | {key("model", images.examples, settings())}
    assert len(found) == 3


def half(size=(8, 6), left=True):
    """A MASK that is white on one half."""
    import torch

    mask = torch.zeros(1, *size)
    mask[..., : size[1] // 2] = float(left)
    mask[..., size[1] // 2 :] = float(not left)
    return mask


def test_masks_are_one_for_all_or_one_for_each_and_of_the_middle_where_shapes_differ(tmp_path):
    import torch

    images = read(tmp_path)
    give = part("train.images").with_masks
    one = give(images, half(), tmp_path / "masks")
    assert len({e.mask for e in one.examples}) == 1
    assert one.notes[-1] == "One mask weighs the loss of 3 images."
    shapes = {e.size.aspect for e in images.examples}
    each = give(images, torch.cat([half(), half(left=False), half()]), tmp_path / "masks")
    assert len({e.mask.hash for e in each.examples}) == 2
    for example in each.examples:
        shown = example.mask.read()
        assert abs(shown.width / shown.height - example.size.aspect) < 0.02 or shapes == {6 / 8}
    wide = torch.ones(1, 8, 32)
    middle = give(images, wide, tmp_path / "masks").examples[0]
    found = middle.mask.read()
    assert found.size == (middle.size.width, middle.size.height)
    column = [found.getpixel((0, y)) for y in range(found.height)]
    assert column[0] == column[-1] == 0
    assert max(column) == 255


def test_another_number_of_masks_or_a_black_one_is_refused(tmp_path):
    import torch

    parts = part("train.images")
    with pytest.raises(parts.MaskCountError, match=r"2 masks.* 3 images"):
        parts.with_masks(read(tmp_path), torch.cat([half(), half()]), tmp_path)
    with pytest.raises(parts.BlackMaskError, match="black all over"):
        parts.with_masks(read(tmp_path), torch.zeros(1, 8, 6), tmp_path)
