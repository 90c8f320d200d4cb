"""A prompt as a request: images that no plan's subjects and scenarios stand behind."""

from __future__ import annotations

from .naming import noise_seed
from .plan import SCENARIO, Plan, Request, Subject, fill


def prompt_request(
    prompt: str,
    number: int,
    *,
    subject: str,
    seed: int,
    take: int = 1,
    name: str = "",
    caption: str = "",
    negative: str = "",
    noise: int | None = None,
) -> Request:
    """Return the request for one image of a prompt.

    Args:
        prompt: What it shows, to the letter.
        number: The prompt's place among others, from 1 on.
        subject: What such images are called together; part of their file names, as are number,
            seed and take.
        seed: As a plan's.
        take: Which of several images of the same.
        name: A short name of the prompt, for people.
        caption: What the image is measured by or trained with.
        negative: What it must not show.
        noise: The noise seed; it follows from the name, as a plan's do, unless given.
    """
    return Request(
        subject=subject,
        seed=seed,
        kind=SCENARIO,
        scenario=number,
        take=take,
        category="",
        scenario_name=name,
        prompt=prompt,
        negative_prompt=negative,
        caption=caption,
        noise_seed=noise_seed(subject, seed, number, take) if noise is None else noise,
    )


def tidy_request(
    prompt: str, number: int, *, subject: str, seed: int, name: str, take: int = 1
) -> Request:
    """Return the request for one image of a prompt that is tidied up and captioned as a plan's.

    Args:
        prompt: What it shows; may have the placeholders of a plan.
        number: As for :func:`prompt_request`, as are the others.
        subject: See there.
        seed: See there.
        name: See there.
        take: See there.

    Raises:
        PlanError: A placeholder is unknown.
    """
    somebody = Subject(name=subject)
    return prompt_request(
        fill(prompt, somebody),
        number,
        subject=subject,
        seed=seed,
        take=take,
        name=name,
        caption=fill(Plan.model_fields["caption"].default, somebody, prompt),
    )
