"""Language-model programs: prompts, sessions, functions made on the way, repairs; on a stand-in executor."""

import numpy as np
import pytest

from policies.lmp.analysis import undefined_calls
from policies.lmp.api.api import make_api
from policies.lmp.api.arm import Arm
from policies.lmp.api.listing import api_listing
from policies.lmp.api.speech import Speech
from policies.lmp.domain import domain_names, find_domain
from policies.lmp.errors import ProgramError
from policies.lmp.language_models import Completion, ModelSettings
from policies.lmp.log import Command
from policies.lmp.program import LIBRARY, Manners, Session
from policies.lmp.prompt import Prompt
from policies.lmp.sandbox import Sandbox
from robot.errors import TongsError
from tests.policies.lmp.stand_ins import PlainExecutor, Scripted, TableScene

PLACES = {"blue bowl": (0.5, 0.15), "blue block": (0.45, -0.1), "red block": (0.55, -0.1)}
OBJECTS = "objects = ['blue bowl', 'blue block', 'red block']"


class Table:
    """A session of the table-top domain on an ideal arm."""

    def __init__(self, *answers, scene=None, **manners):
        self.scene = scene or TableScene(PLACES)
        arm = Arm(self.scene.spec, self.scene.observe, self.scene.execute)
        self.speech = Speech()
        self.api = make_api(arm, self.scene, self.speech)
        self.model = Scripted(*answers)
        self.session = Session(
            find_domain("tabletop"),
            self.api.functions,
            self.model,
            PlainExecutor,
            Manners(**manners),
            ModelSettings(),
            lambda: f"objects = {self.api.perception.get_obj_names()}",
        )

    def say(self, text):
        self.api.begin()
        self.session.log.commands.append(Command(text, 0.0))
        self.session.command(text)

    @property
    def asked(self):
        return [(prompt.program, prompt.query) for prompt in self.model.prompts]


def test_order_of_a_prompt():
    prompt = Prompt("ui", "base", "x = 1", "objects = []", "# go.")
    assert prompt.text == "base\nx = 1\nobjects = []\n# go."
    assert Prompt("ui", "base", "", "", "# go.").text == "base\n# go."
    assert prompt.after("y(", "line 1: no\nway").text == (
        "base\nx = 1\nobjects = []\n# go.\ny(\n# that failed: line 1: no\n# way\n# again, corrected:\n# go."
    )


def test_the_prompt_of_a_command_lists_the_programs_and_ends_with_the_query():
    table = Table("x = 1")
    table.say("Pick it up. ")
    (prompt,) = table.model.prompts
    others = "from utils import parse_obj_name, parse_position, parse_question, transform_shape_pts"
    assert f"\n{others}\n" in prompt.text and "{" + "api}" not in prompt.text
    assert prompt.text.endswith(f"{OBJECTS}\n# Pick it up.")


def test_a_session_keeps_code_and_variables():
    table = Table("block_name = 'red block'", "say(block_name)", "say(block_name)")
    table.say("take the red block")
    table.say("what is it")
    assert table.speech.said == ["red block"]
    assert table.model.prompts[1].text.endswith(f"\n{OBJECTS}\nblock_name = 'red block'\n{OBJECTS}\n# what is it.")
    table.session.begin()
    with pytest.raises(ProgramError, match="block_name"):
        Table("say(block_name)", repairs=0).say("what is it")


def test_a_program_without_session_forgets():
    table = Table(
        "parse_obj_name('it')\nparse_obj_name('it')", "seen = 1\nret_val = 'a'", "ret_val = str(seen)", repairs=0
    )
    with pytest.raises(ProgramError, match="seen"):
        table.say("go")


def test_programs_call_programs_and_get_their_result():
    table = Table(
        "put_first_on_second(parse_obj_name('the red one'), parse_position('the top left corner'))",
        "ret_val = find_objects('red')[0]",
        "ret_val = get_corner_pos('top left corner')",
    )
    table.say("put the red one in the top left corner")
    assert table.asked == [
        ("tabletop_ui", "# put the red one in the top left corner."),
        ("parse_obj_name", "# the red one."),
        ("parse_position", "# the top left corner."),
    ]
    np.testing.assert_allclose(table.scene.places["red block"][:2], [0.59, 0.21], atol=0.01)


def test_blocks_to_matching_bowls_stack_and_undo():
    places = {"blue bowl": (0.5, 0.15), "red bowl": (0.5, 0.0), "blue block": (0.4, -0.15), "red block": (0.55, -0.15)}
    scene = TableScene(places)
    table = Table(
        "for name in find_objects('blocks'):\n    put_first_on_second(name, f'{get_color(name)} bowl')",
        "for name in find_objects('blocks'):\n    put_first_on_second(name, get_obj_pos_before(name))",
        "put_first_on_second('red block', 'blue block')",
        scene=scene,
    )
    table.say("put the blocks in the bowls that match")
    for colour in ("blue", "red"):
        np.testing.assert_allclose(scene.places[f"{colour} block"][:2], places[f"{colour} bowl"], atol=0.01)
    table.say("undo that")
    for colour in ("blue", "red"):
        np.testing.assert_allclose(scene.places[f"{colour} block"][:2], places[f"{colour} block"], atol=0.01)
    table.say("stack them")
    assert scene.places["red block"][2] == pytest.approx(scene.places["blue block"][2] + 0.04, abs=0.005)


def test_arguments_and_another_name_for_the_result():
    table = Table(
        "pts = transform_shape_pts('scale it by 0.5x', original_shape_pts=np.array([[0.4, 0.0], [0.6, 0.0]]))\n"
        "say(str(np.round(pts, 3).tolist()))",
        "centroid = np.mean(original_shape_pts, axis=0)\n"
        "new_shape_pts = centroid + 0.5 * (original_shape_pts - centroid)",
    )
    table.say("halve it")
    assert table.speech.said == ["[[0.45, 0.0], [0.55, 0.0]]"]


# --- functions that nobody has defined


def test_undefined_calls_and_their_signatures():
    code = (
        "pts = interpolate(line, n=4)\nfor pt in pts:\n    print(len(spread(pt)))\n"
        "np.sum(pts)\nlocal = lambda x: x\nlocal(1)\ndef own(f):\n    return f(2)\nown(max)\nsay('x')\nspread(1)"
    )
    assert undefined_calls(code, {"say"}) == {"interpolate": "pts = interpolate(line, n=4)", "spread": "spread(pt)"}


def test_functions_are_made_once_with_those_that_they_need():
    table = Table(
        "middle = get_middle(find_objects('blocks'))\nput_first_on_second('red block', middle)",
        "def get_middle(names):\n    return np.mean(positions_of(names), axis=0)",
        "def positions_of(names):\n    return [get_obj_pos(name) for name in names]",
        "say(str(len(positions_of(['red block']))))",
    )
    table.say("put the red block in the middle of the blocks")
    assert table.asked[1:] == [
        ("fgen", "# define function: middle = get_middle(find_objects('blocks'))."),
        ("fgen", "# define function: positions_of(names)."),
    ]
    np.testing.assert_allclose(table.scene.places["red block"][:2], [0.5, -0.1], atol=0.01)
    table.say("how many")
    assert len(table.asked) == 4 and table.speech.said == ["1"]
    assert "transform_shape_pts, get_middle, positions_of" in table.model.prompts[3].text


def test_flat_generation_makes_no_functions():
    table = Table("x = get_middle(1)", repairs=0, hierarchical=False)
    with pytest.raises(ProgramError, match="get_middle is not defined"):
        table.say("go")
    assert len(table.asked) == 1


def test_a_function_that_is_not_what_was_asked_for():
    table = Table("x = get_middle(1)", "I would take the mean.", "def get_mean(x):\n    return x", repairs=1)
    with pytest.raises(ProgramError, match="does not define the function get_middle"):
        table.say("go")


def test_functions_do_not_go_on_for_ever():
    answers = [f"def f{i}(x):\n    return f{i + 1}(x)" for i in range(30)]
    with pytest.raises(ProgramError, match="one function too many"):
        Table("f0(1)", *answers, repairs=0).say("go")


# --- what fails goes back to the model


def test_an_error_goes_back_with_its_trace():
    table = Table("put_first_on_second('red blok', 'blue bowl')", "put_first_on_second('red block', 'blue bowl')")
    table.say("put it in the bowl")
    retry = table.model.prompts[1].text
    told = "there is no 'red blok'; there are: 'blue bowl', 'blue block', 'red block'"
    assert f"# that failed: PerceptionError: {told}" in retry
    assert retry.endswith("# again, corrected:\n# put it in the bowl.")
    first, second = table.session.log.commands[0].attempts
    assert (first.fault, second.fault, second.error) == ("robot", None, None)
    assert [call["name"] for call in second.calls] == ["put_first_on_second"]
    np.testing.assert_allclose(table.scene.places["red block"][:2], PLACES["blue bowl"], atol=0.01)


def test_repairs_have_an_end():
    table = Table(*["move_to([2, 0, 0])"] * 3, repairs=2)
    with pytest.raises(ProgramError, match=r"\(2.000, 0.000, 0.000\) m is out of the arm's reach"):
        table.say("go")
    assert len(table.asked) == 3 and table.session.log.faults == {"model": 0, "program": 0, "robot": 3}


def test_an_empty_grasp_is_told_and_tried_again():
    table = Table("pick('red block')", "pick('red block')")
    table.scene.slippery = True
    complete = table.model.complete

    def mend(*given):
        table.scene.slippery = len(table.model.prompts) == 0
        return complete(*given)

    table.model.complete = mend
    table.say("take the red block")
    assert "GraspError: the fingers closed on nothing at 'red block'" in table.model.prompts[1].text
    assert table.api.motion.is_holding("red block")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("I would put the red block into the bowl.", "no Python program"),
        ("Certainly", "is no program"),
        ("", "holds no code"),
        (Completion("I cannot help with that.", "refusal"), "refuses: 'I cannot help with that.'"),
        (Completion("x = 1\nx = 1", "length", completion_tokens=512), "not come to an end; .* after 512 tokens"),
    ],
)
def test_answers_that_are_no_programs(answer, message):
    table = Table(answer, repairs=0)
    with pytest.raises(ProgramError, match=message):
        table.say("put the red block in the bowl")
    assert table.session.log.faults["model"] == 1
    assert table.scene.steps == 0


def test_a_missing_result_is_told():
    table = Table("parse_obj_name('it')", "x = 1", repairs=0)
    with pytest.raises(ProgramError, match="has to assign its result to ret_val"):
        table.say("go")


def test_a_dry_run_runs_nothing():
    table = Table("put_first_on_second('red block', 'blue bowl')", dry_run=True)
    table.say("put the red block in the bowl")
    assert table.scene.steps == 0 and table.session.executor.ran == []
    assert table.session.log.commands[0].attempts[0].code.startswith("put_first")


def test_a_model_that_is_gone_ends_everything():
    table = Table("parse_obj_name('it')")

    def gone(*given):
        if table.model.prompts:
            raise TongsError("no language model answers at http://x")
        return Scripted.complete(table.model, *given)

    table.model.complete = gone
    with pytest.raises(TongsError, match="no language model answers"):
        table.say("go")


# --- the domains


@pytest.mark.parametrize("name", domain_names())
def test_a_domain_fits_the_api_and_its_examples_are_programs(name):
    """Each example of a prompt is Python, and calls nothing but what the prompt offers or `fgen` makes."""
    domain = find_domain(name)
    scene = TableScene(PLACES)
    functions = make_api(Arm(scene.spec, scene.observe, scene.execute), scene, Speech()).functions
    shown = domain.texts[domain.config.generator] if domain.config.generator else ""
    for program in domain.programs:
        text = domain.texts[program]
        examples = text.split("{api}")[1]
        made = undefined_calls(examples, {*functions, *domain.programs, *LIBRARY})
        for helper in made:
            assert f"def {helper}(" in shown, (program, helper)
    assert {"tabletop", "drawers", "pouring"} <= set(domain_names())


def test_the_listing_shows_types_units_and_frames():
    scene = TableScene(PLACES)
    functions = make_api(Arm(scene.spec, scene.observe, scene.execute), scene, Speech()).functions
    listing = api_listing(functions)
    assert "def put_first_on_second(obj: str, target: str | list[float] | np.ndarray) -> None:" in listing
    assert "self" not in listing.replace("itself", "").replace("yourself", "")
    for name, function in functions.items():
        assert (function.__doc__ or "").strip(), name
        if "pos" in name and not name.startswith("get_corner_name"):
            assert " m" in function.__doc__ and ("base frame" in function.__doc__), name


def test_every_function_can_be_checked_by_the_sandbox():
    scene = TableScene(PLACES)
    table = Table()
    functions = make_api(Arm(scene.spec, scene.observe, scene.execute), scene, Speech()).functions
    with Sandbox({**functions, **{p.name: p.function() for p in table.session.programs.values()}}):
        pass


def test_a_domain_of_your_own(tmp_path):
    with pytest.raises(TongsError, match="unknown domain 'kitchen'; known are: drawers, pouring, tabletop"):
        find_domain("kitchen")
    with pytest.raises(TongsError, match=r"has no domain.yaml"):
        find_domain(f"{tmp_path}/x")
    (tmp_path / "domain.yaml").write_text("about: x\nentry: ui\napi: [say]\nlmps: {ui: {prompt_text: ui.txt}}")
    with pytest.raises(TongsError, match="the prompt of ui is missing"):
        find_domain(f"{tmp_path}/")
    (tmp_path / "ui.txt").write_text("{variable_vars_imports}\n# go.\nsay('x')\n")
    assert find_domain(f"{tmp_path}/").base("ui", {"say": print}, []) == "\n# go.\nsay('x')"
