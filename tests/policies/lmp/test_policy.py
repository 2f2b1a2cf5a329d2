"""Programs as a policy: an action at a time, commands that replace one another, an arm that holds still otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from policies.lmp.language_models import Completion
from policies.lmp.policy import LmpPolicy, LmpSettings, write_log
from robot.chunk_queue import ChunkQueue
from robot.errors import TongsError
from robot.interface import EE_DELTA, ActionChunk, PolicySpec
from tests.conformance import check_policy
from tests.policies.lmp.stand_ins import PlainExecutor, Scripted, TableScene

PLACES = {"blue bowl": (0.5, 0.15), "red block": (0.55, -0.1)}


def make(*answers, scene=None, learned=None, **settings):
    scene = scene or TableScene(PLACES)
    said = []
    policy = LmpPolicy(
        LmpSettings(domain="tabletop", **settings),
        scene.spec,
        scene,
        learned,
        model=Scripted(*answers),
        make_executor=PlainExecutor,
        tell=said.append,
    )
    policy.reset(0)
    return scene, policy, said


def play(scene, policy, steps):
    for _ in range(steps):
        scene.execute(policy.act(scene.observe()).actions[0])


def test_a_program_moves_the_arm_and_then_it_holds_still():
    scene, policy, _ = make("put_first_on_second('red block', 'blue bowl')")
    scene.instruction = "put the red block in the blue bowl"
    play(scene, policy, 250)
    assert not policy.busy and policy.log.commands[0].ending == "finished"
    np.testing.assert_allclose(scene.places["red block"][:2], PLACES["blue bowl"], atol=0.01)
    before = scene.pose.position.copy()
    play(scene, policy, 20)
    np.testing.assert_allclose(scene.pose.position, before, atol=1e-3)
    policy.close()


def test_the_contract():
    scene = TableScene(PLACES, "lift the red block")
    model = Scripted(*["lift('red block', 0.1)"] * 20)
    policy = LmpPolicy(LmpSettings(), scene.spec, scene, model=model, make_executor=PlainExecutor)
    check_policy(policy, lambda number: replace(scene.observe(), time=float(number)))
    policy.close()


def test_a_new_instruction_ends_the_program_and_belongs_to_the_same_session():
    scene, policy, said = make("thing = 'red block'\nwait(60)\nsay('never')", "say(thing)")
    scene.instruction = "wait a minute"
    play(scene, policy, 30)
    assert policy.busy
    scene.instruction = "what was it"
    play(scene, policy, 5)
    assert [command.ending for command in policy.log.commands] == ["interrupted", "failed"] or said == ["red block"]
    assert "never" not in said
    policy.close()


def test_a_loop_sees_what_it_does():
    """A generated loop follows a thing that is moved while it runs."""
    scene, policy, _ = make(
        "while get_time() < 12:\n"
        "    way = np.append(get_obj_pos('red block'), 0.2) - get_tool_pos()\n"
        "    servo(np.clip(0.5 * way, -0.03, 0.03))"
    )
    scene.instruction = "follow the red block"
    for step in range(110):
        scene.places["red block"][:2] = 0.5 + 0.1 * np.cos(step / 40), 0.1 * np.sin(step / 40)
        play(scene, policy, 1)
    assert np.linalg.norm(scene.pose.position[:2] - scene.places["red block"][:2]) < 0.02
    policy.close()


def test_an_unknown_thing_is_said_and_the_arm_does_not_move():
    wrong = "put_first_on_second('green block', 'blue bowl')"
    for answers, words in (([wrong] * 3, "there is no 'green block'"), (["say('I see no green block.')"], "no green")):
        scene, policy, said = make(*answers)
        scene.instruction = "put the green block in the blue bowl"
        start = scene.pose.position.copy()
        play(scene, policy, 30)
        assert any(words in sentence for sentence in said), said
        np.testing.assert_allclose(scene.pose.position, start, atol=1e-6)
        policy.close()


def test_asking_the_person():
    scene, policy, _ = make("say(ask('which one?'))", repairs=0)
    scene.instruction = "take it"
    play(scene, policy, 2)
    assert "nobody is there to answer 'which one?'" in policy.log.commands[0].reason
    answered = LmpPolicy(
        LmpSettings(domain="tabletop"), scene.spec, scene, model=Scripted("say(ask('which one?'))"),
        make_executor=PlainExecutor, answer=lambda question: "the red one",
    )  # fmt: skip
    answered.reset(0)
    play(scene, answered, 2)
    assert answered.log.commands[0].said == ["the red one"]


def test_prose_is_told_to_the_person():
    scene, policy, said = make(*[Completion("Sorry, I cannot do that.")] * 3)
    scene.instruction = "dance"
    play(scene, policy, 3)
    assert said and said[0].startswith("I could not do that: that is no Python program")
    assert scene.pose.position == pytest.approx([0.42, 0.0, 0.34])


def test_a_model_that_cannot_be_asked_stops_the_episode():
    scene, policy, _ = make()

    def gone(*given):
        raise TongsError("no language model answers at http://x")

    policy._model.complete = gone
    scene.instruction = "go"
    with pytest.raises(TongsError, match="no language model answers"):
        policy.act(scene.observe())


def test_a_model_that_thinks_long_does_not_hold_the_arm_up():
    import threading

    scene, policy, _ = make("wait(1)", wait=0.05)
    release, complete = threading.Event(), policy._model.complete
    policy._model.complete = lambda *given: (release.wait(10), complete(*given))[1]
    scene.instruction = "wait"
    play(scene, policy, 5)
    assert scene.steps == 5 and policy.busy
    release.set()
    play(scene, policy, 40)
    assert policy.log.commands[0].ending == "finished"


class Climber:
    """A learned policy that goes up for as long as it is told to."""

    spec = PolicySpec({}, (), EE_DELTA, horizon=4)

    def reset(self, seed): ...

    def act(self, observation):
        assert observation.instruction == "go up"
        actions = np.tile(np.array([0, 0, 0.01, 0, 0, 0, 1], np.float32), (4, 1))
        return ActionChunk(actions, observation.time + np.arange(4) / 10)

    def act_batch(self, observations):
        return [self.act(observation) for observation in observations]


def test_a_learned_policy_is_a_skill():
    scene, policy, _ = make("do('go up', 1.0)", learned=Climber())
    scene.instruction = "let it go up"
    play(scene, policy, 14)
    assert scene.pose.position[2] == pytest.approx(0.34 + 10 * 0.01, abs=0.002)
    without, policy, _ = make("do('go up', 1.0)", repairs=0)
    without.instruction = "let it go up"
    play(without, policy, 1)
    assert "no learned policy" in policy.log.commands[0].reason


def test_the_log_tells_everything(tmp_path):
    scene, policy, _ = make("put_first_on_second('red block', 'blue bowl')")
    scene.instruction = "put it in the bowl"
    queue = ChunkQueue(policy, 4)
    for _ in range(200):
        scene.execute(queue.action(scene.observe()))
    write_log(policy, tmp_path / "programs" / "a.json", success=True)
    import json

    log = json.loads((tmp_path / "programs" / "a.json").read_text())
    assert log["outcome"] == {"success": True} and log["domain"] == "tabletop"
    (command,) = log["commands"]
    assert command["ending"] == "finished"
    assert command["attempts"][0]["code"] == "put_first_on_second('red block', 'blue bowl')"
    assert command["attempts"][0]["calls"][0]["name"] == "put_first_on_second"
    assert log["completions"][0]["prompt"].endswith("# put it in the bowl.")
