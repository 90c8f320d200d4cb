"""What nodes are given is looked at first: named errors, and messages that ComfyUI can write."""

import errno
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.comfyui.pack import core, part

NODES = Path(__file__).resolve().parents[2] / "nodes"
CHECKED = re.compile(
    r"^    @classmethod\n    @checks_inputs\n(?:    @says_damage\(\d?\)\n)?    def execute\(", re.M
)
IMAGES = torch.rand(2, 8, 8, 3)


@pytest.fixture(scope="module")
def given():
    return part("ui.given")


KINDS = (
    "MODEL", "CLIP", "VAE", "CURATOR_PLAN", "CURATOR_IMAGE_SET", "CURATOR_SELECTION",
    "CURATOR_DATASET", "IMAGE", "MASK",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [None, object(), [], {}, 5], ids=lambda one: type(one).__name__)
def test_a_wire_that_carries_nothing_or_something_else(given, kind, value):
    with pytest.raises(given.WireError, match=r"^'wire' needs .* came\. \w+ .*[Cc]onnect|Connect"):
        given.checked("wire", kind, value)


@pytest.mark.parametrize("value", ["abc", [1, 2], [[torch.zeros(1), 5]], None])
def test_a_conditioning_that_is_none(given, value):
    with pytest.raises(given.WireError, match="needs a conditioning"):
        given.checked("positive", "CONDITIONING", value)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[:0], torch.zeros(1, 0, 8, 3), IMAGES[0], IMAGES[None], IMAGES[..., :2],
        torch.zeros(1, 8, 8, 5), (IMAGES * 255).byte(), IMAGES > 0.5,
    ],
    ids=lambda images: f"{tuple(images.shape)} {images.dtype}",
)  # fmt: skip
def test_images_that_are_none(given, images):
    with pytest.raises(given.WireError, match=r"needs images .*a tensor of .* came"):
        given.checked("images", "IMAGE", images)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_would_silently_be_black_is_refused(given, number):
    images = IMAGES.clone()
    images[1, 0] = number
    with pytest.raises(given.WireError, match=r"1 of 2 images .*no numbers.*--fp32-vae"):
        given.checked("images", "IMAGE", images)
    with pytest.raises(given.WireError, match="1 of 2 masks"):
        given.checked("masks", "MASK", images[..., 0])


def test_what_can_be_used_is_brought_into_one_shape(given):
    assert given.checked("images", "IMAGE", IMAGES) is IMAGES
    assert given.checked("images", "IMAGE", torch.rand(2, 8, 8, 4)).shape[-1] == 4
    gray = given.checked("images", "IMAGE", IMAGES[..., :1])
    assert torch.equal(gray, IMAGES[..., :1].repeat(1, 1, 1, 3))
    assert given.checked("images", "IMAGE", IMAGES.bfloat16()).dtype == torch.float32
    masks = IMAGES[..., 0]
    for same in (masks, masks[:, None], masks[..., None]):
        assert torch.equal(given.checked("masks", "MASK", same), masks)
    assert torch.equal(given.checked("masks", "MASK", masks[0]), masks[:1])
    assert given.checked("masks", "MASK", masks > 0.5).dtype == torch.float32
    assert given.checked("waves", "CURATOR_WAVES", None) is None
    assert given.checked("boxes", "BOUNDING_BOX,BBOX", 5) == 5


def test_our_own_are_known(given):
    images = core("imageset").ImageSet.from_rows([], Path())
    assert given.checked("images", "CURATOR_IMAGE_SET", images) is images
    assert given.checked("dataset", "CURATOR_DATASET", Path("x")) == Path("x")


def node(given, execute):
    """Return a node's execute as ComfyUI calls it."""
    inputs = [
        SimpleNamespace(id="clip", optional=False, get_io_type=lambda: "CLIP"),
        SimpleNamespace(id="other", optional=True, get_io_type=lambda: "CLIP"),
    ]
    described = SimpleNamespace(define_schema=lambda: SimpleNamespace(inputs=inputs))
    checked = given.checks_inputs(execute)
    return lambda **named: checked(described, **named)


def test_what_is_not_connected_may_be_nothing(given):
    clip = SimpleNamespace(tokenize=1, patcher=2)
    run = node(given, lambda cls, **named: named)
    assert run(clip=clip, other=None) == {"clip": clip}  # which leaves the default
    with pytest.raises(given.WireError, match="'other' needs a text encoder"):
        run(clip=clip, other=5)
    with pytest.raises(given.HalfCharacterError, match="'text' has half of a character"):
        run(clip=clip, text="a\ud800b")


@pytest.mark.parametrize("text", ["'a\udcff.png' is damaged", "x" * 3_000_000])
def test_comfyui_can_write_what_a_node_says(given, text):
    """A message that a terminal does not take ends ComfyUI's thread that runs graphs."""

    def fail(cls, **_):
        raise ValueError(text)

    with pytest.raises(given.NodeError, match=r"^ValueError: ") as caught:
        node(given, fail)(clip=SimpleNamespace(tokenize=1, patcher=2))
    assert len(str(caught.value)) < 4000
    str(caught.value).encode()
    assert caught.value.__suppress_context__


def test_an_error_of_the_system_says_what_it_means(given):
    def fail(cls, **_):
        raise OSError(errno.ENOSPC, "No space left on device", "out/a\udcff.png")

    with pytest.raises(core("errors").WriteError, match=r"a\\xff\.png: no space.*Free some space"):
        node(given, fail)(clip=SimpleNamespace(tokenize=1, patcher=2))


@pytest.mark.parametrize(
    "run",
    [
        lambda: torch.nn.Linear(8, 4)(torch.zeros(2, 6)),
        lambda: torch.nn.Conv2d(4, 4, 1)(torch.zeros(1, 16, 8, 8)),
        lambda: torch.zeros(3) + torch.zeros(4),
    ],
)
def test_models_of_several_families_are_said(given, run):
    with pytest.raises(given.MisfitError, match=r"does not fit together \(.*of one loader"):
        node(given, lambda cls, **_: run())(clip=SimpleNamespace(tokenize=1, patcher=2))


def test_another_error_stays_what_it_is(given):
    def fail(cls, **_):
        raise KeyError("known")

    with pytest.raises(KeyError, match="known"):
        node(given, fail)(clip=SimpleNamespace(tokenize=1, patcher=2))


def test_every_node_looks_at_what_it_is_given():
    for path in NODES.rglob("*.py"):
        text = path.read_text()
        written = len(re.findall(r"^    def execute\(", text, re.M))
        assert len(CHECKED.findall(text)) == written, path.name


@pytest.mark.parametrize("text", ["a\ud800b", "x" * 300, "y" * 3_000_000, "a/" * 5000])
def test_a_text_that_is_no_path(tmp_path, text):
    paths = part("ui.paths")
    with pytest.raises(paths.UnusablePathError, match="no path that can be used") as caught:
        paths.contained(text, tmp_path, [tmp_path])
    assert len(str(caught.value)) < 600
    str(caught.value).encode()


def test_a_circle_of_links_is_no_path(tmp_path, monkeypatch):
    """Older Pythons refuse to resolve it; newer ones find nothing there."""
    paths = part("ui.paths")

    def resolve(self):
        raise RuntimeError(f"Symlink loop from '{self}'")

    monkeypatch.setattr(Path, "resolve", resolve)
    with pytest.raises(paths.UnusablePathError, match="Symlink loop"):
        paths.contained("a", tmp_path, [])
