"""Prior-preservation images: what the base model makes of the class, so that it stays that way.

A LoRA that sees one person alone under "char1 woman" learns that every woman is that person. Shown
other women under "a woman" all the while, it learns what the trigger word means (Ruiz et al. 2023,
"DreamBooth", arXiv 2208.12242, section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...atomic import write_text
from ...errors import CuratorError
from ...plan import Request
from ...progress import Progress, silent
from ...requests import tidy_request
from ..job import PriorImages

if TYPE_CHECKING:
    from ...generation.backend import Backend

SUBJECT = "prior"
"""What the images' records call their subject."""


class NobodyNamedError(CuratorError):
    """No caption names the subject, so none can be turned into one of the class."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"Prior images are asked for, but no caption of the dataset says "
            f"{' or '.join(repr(name) for name in names)}. Export the dataset with captions that "
            "do, give the trigger word that they use, or bring images of the class yourself "
            "(option 'prior')."
        )


def class_captions(captions: Sequence[str], people: Mapping[str, str]) -> tuple[str, ...]:
    """Turn captions of a subject into the same captions of anybody of its class.

    Args:
        captions: Of the training images.
        people: By what captions call a subject ("char1 woman"), what they would call somebody of
            its kind ("a woman").

    Returns:
        The distinct captions that name a subject, with the name replaced, in their order.

    Raises:
        NobodyNamedError: None does.
    """
    names = sorted(people, key=len, reverse=True)
    # "a char1 woman" must not become "a a woman".
    pattern = re.compile(rf"(?<!\w)(?:an? )?({'|'.join(map(re.escape, names))})(?!\w)")
    found = dict.fromkeys(
        pattern.sub(lambda match: people[match.group(1)], caption)
        for caption in captions
        if names and pattern.search(caption)
    )
    if not found:
        raise NobodyNamedError(names)
    return tuple(found)


def make_prior(
    captions: Sequence[str],
    people: Mapping[str, str],
    backend: Backend,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress = silent,
) -> PriorImages:
    """Make images of the class with the base model, each with its caption beside it.

    They show the scenes of the training set with anybody in it. What is there already is not made
    again; what else lies in the folder, as of other seeds or a larger number, is not among them.

    Args:
        captions: Of the training images.
        people: See :func:`class_captions`.
        backend: The base model, without the LoRA.
        folder: Where the images go.
        count: How many; the captions take turns.
        seed: Of the noise.
        batch_size: Images that are sampled together.
        progress: Watches.

    Returns:
        Which files they are, for :attr:`.LoraJob.prior`.

    Raises:
        NobodyNamedError: No caption names a subject.
        CuratorError: As :func:`.generation.run.generate`.
    """
    from ...generation.run import generate

    prompts = class_captions(captions, people)[:count]
    requests = requests_of(prompts, count, seed)
    made = generate(requests, backend, folder, batch_size=batch_size, progress=progress)
    for path, request in zip(made.paths(), requests, strict=True):
        write_text(path.with_suffix(".txt"), request.prompt + "\n")
    return PriorImages(folder, tuple(made.table["path"]))


def requests_of(prompts: Sequence[str], count: int, seed: int) -> list[Request]:
    """Return so many requests; the prompts take turns."""
    return [
        tidy_request(
            prompts[i % len(prompts)],
            i % len(prompts) + 1,
            subject=SUBJECT,
            seed=seed,
            take=i // len(prompts) + 1,
            name=f"class {i % len(prompts) + 1}",
        )
        for i in range(count)
    ]
