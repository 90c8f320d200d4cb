"""A prompt alone becomes the request that a plan of it would make."""

import pytest

from character_curator.plan import Plan, PlanError, Scenario, Subject
from character_curator.requests import prompt_request, tidy_request
from character_curator.training.data.prior import requests_of

PROMPTS = ("char1 smiling", " a ,, b  c,", "portrait of a woman, in a park, at night")


def plan(subject, seed, name, takes=1):
    return Plan(
        subjects=(Subject(name=subject),),
        seeds=(seed,),
        scenarios=tuple(
            Scenario(number=n, name=f"{name} {n}", prompt=prompt)
            for n, prompt in enumerate(PROMPTS, 1)
        ),
        takes=takes,
        template="{scenario}",
    )


def test_a_tidy_request_is_a_plans():
    made = [
        tidy_request(prompt, n, subject="Ünï x", seed=7, name=f"prompt {n}")
        for n, prompt in enumerate(PROMPTS, 1)
    ]
    assert made == list(plan("Ünï x", 7, "prompt").requests())


def test_prompts_of_prior_images_take_turns():
    wanted = sorted(plan("prior", 3, "class", 3).requests(), key=lambda request: request.take)
    assert requests_of(PROMPTS, 7, 3) == wanted[:7]


def test_a_prompt_is_taken_to_the_letter_and_with_the_noise_that_is_given():
    made = prompt_request("a ,, {b}", 2, subject="sample", seed=5, noise=9, negative="c")
    assert (made.prompt, made.negative_prompt, made.noise_seed) == ("a ,, {b}", "c", 9)
    assert made.file_name == "char_sample_seed_5_scenario_02_01.png"


def test_an_unknown_placeholder_is_told():
    with pytest.raises(PlanError, match="nobody"):
        tidy_request("a {nobody}", 1, subject="a", seed=0, name="")
