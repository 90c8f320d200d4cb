"""Plans from files, without ComfyUI."""

import pytest

from tests.support.comfyui.pack import core, part

SUBJECT = '[[subjects]]\nname = "mia"\ndescription = "a woman"\n'
SCENARIO = '[[scenarios]]\nnumber = 1\nname = "park"\nprompt = "park"\n'
ENTRIES = SUBJECT + SCENARIO


def plan_of_file(text):
    return part("plan.texts").plan_of_file(text, "mine.toml")


@pytest.mark.parametrize(
    "head",
    [
        "[plan]\nseeds = [1, 2]\n",
        "  [ plan ] # the plan\nseeds = [1, 2]\n",
        "plan = {seeds = [1, 2]}\n",
        "plan.seeds = [1, 2]\n",
        '["plan"]\nseeds = [1, 2]\n',
    ],
)
def test_a_project_is_known_by_its_plan_however_that_is_written(head):
    plan = plan_of_file(head + ENTRIES + "[quality]\nminimum = 0.5\n")
    assert (plan.seeds, len(plan.requests())) == ((1, 2), 2)


def test_a_plan_that_speaks_of_a_plan_is_no_project():
    text = 'seeds = [3]\ntemplate = """\n[plan]\n{description}, {scenario}"""\n' + ENTRIES
    assert plan_of_file(text).seeds == (3,)


def test_faults_are_named():
    with pytest.raises(core("project").ProjectFileError, match=r"mine\.toml is not valid TOML"):
        plan_of_file("seeds = [1")
    with pytest.raises(core("project").ProjectFileError, match=r"mine\.toml, line 3: plan\.sedes"):
        plan_of_file("[plan]\nseeds = [1]\nsedes = [1]\n" + ENTRIES)
    with pytest.raises(core("plan").PlanError, match="sedes"):
        plan_of_file("sedes = [1]\n" + ENTRIES)
