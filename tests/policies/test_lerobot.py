"""LeRobot's policies behind our contract give what LeRobot's own pipeline gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policies.lerobot.fit import LeRobotSettings
from policies.lerobot.folder import deciding_files, find_folder
from policies.lerobot.policy import LeRobotPolicy
from robot import so_arm
from robot.chunk_queue import ChunkQueue
from robot.errors import ContractError, TongsError
from robot.interface import EE_DELTA, Observation, RobotSpec
from tests.conformance import check_batches, check_policy, check_shared
from tests.policies import small_lerobot as small

pytest.importorskip("lerobot.policies")
pytest.importorskip("diffusers")
FAMILIES = ("act", "diffusion", "smolvla")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("lerobot") / request.param, request.param)


@pytest.fixture
def act_folder(tmp_path: Path) -> Path:
    return small.save(tmp_path / "act", "act")


def ready(folder: Path, seed: int = 7, **changes: Any) -> LeRobotPolicy:
    policy = LeRobotPolicy(folder, **changes)
    policy.bind(small.ROBOT)
    policy.reset(seed)
    return policy


def lerobot_runs(folder: Path, steps: Sequence[Sequence[Observation]], seed: int) -> NDArray[np.float32]:
    """Actions (steps, B, A) of LeRobot's own loop (preprocessor, select_action, postprocessor) for these observations,
    whose pictures have the policy's size already."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    preprocessor, postprocessor = make_pre_post_processors(config, str(folder))
    policy.reset()
    torch.manual_seed(seed)
    actions = []
    for observations in steps:
        # The state in the order of the dataset: x, y, z of the robot's z, y, x, grip, goal.
        state = np.stack([observation.state for observation in observations])
        batch: dict[str, Any] = {
            "observation.state": torch.from_numpy(state[:, [2, 1, 0]]),
            "observation.environment_state": torch.from_numpy(state[:, [4]]),
            "task": [observation.instruction for observation in observations],
        }
        for camera in ("front", "wrist"):
            pictures = np.stack([observation.images[camera] for observation in observations])
            batch[f"observation.images.{camera}"] = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            actions.append(postprocessor(policy.select_action(preprocessor(batch))).numpy())
    return np.stack(actions)


def seen(count: int, episode: int = 0, size: tuple[int, int] = small.SIZE) -> list[Observation]:
    """An episode of observations with one instruction; the pictures are as large as the policy wants them."""
    episodes = []
    for step in range(count):
        whole = small.observation(100 * episode + step, small.INSTRUCTIONS[episode % 4], time=step / 10)
        pictures = {camera: image[: size[0], : size[1]] for camera, image in whole.images.items()}
        episodes.append(Observation(pictures, whole.state, whole.instruction, whole.time))
    return episodes


def follow(policy: LeRobotPolicy, episode: Sequence[Observation], execute: int, seed: int) -> NDArray[np.float32]:
    """Actions (steps, A) as the control loop gets them."""
    queue = ChunkQueue(policy, execute)
    queue.reset(seed)
    return np.stack([queue.action(observation) for observation in episode])


def test_it_keeps_the_contract(folder: Path) -> None:
    policy = LeRobotPolicy(folder)
    policy.bind(small.ROBOT)
    check_policy(policy, small.observation)
    check_batches(policy, small.observation)


def test_actions_are_those_of_lerobots_own_loop(folder: Path) -> None:
    """Eleven steps: three chunks, the last one cut short; for diffusion with observations between the chunks."""
    episode = seen(11)
    ours = follow(ready(folder), episode, execute=4, seed=7)
    theirs = lerobot_runs(folder, [[observation] for observation in episode], seed=7)[:, 0]
    assert np.abs(theirs).max() > 0 and np.ptp(theirs, axis=0).min() > 1e-4, "the comparison must have something to see"
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_batch_is_those_of_lerobots_own_loop(folder: Path) -> None:
    """Three episodes side by side, each with its own history and instruction."""
    episodes = [seen(6, episode) for episode in range(3)]
    steps = list(zip(*episodes, strict=True))
    policy, ours = ready(folder), []
    for number, observations in enumerate(steps):
        if number % 4 == 0:
            chunks = policy.act_batch(observations)
        elif policy.spec.history > 1:
            policy.remember(observations)
        ours.append(np.stack([chunk.actions[number % 4] for chunk in chunks]))
    np.testing.assert_allclose(np.stack(ours), lerobot_runs(folder, steps, seed=7), atol=1e-5)


def test_a_batch_equals_single_episodes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise of every sample set to zero, an episode of a batch is what it is alone."""
    monkeypatch.setattr(torch, "randn", lambda *shape, size=None, **_: torch.zeros(size or shape))
    monkeypatch.setattr(torch, "normal", lambda *, size, **_: torch.zeros(size))
    sampling = {"noise_scheduler_type": "DDIM"} if folder.name == "diffusion" else {}
    episodes, policy = [seen(5, episode) for episode in range(3)], ready(folder, sampling=sampling)
    together = []
    for observations in zip(*episodes, strict=True):
        together.append([chunk.actions for chunk in policy.act_batch(observations)])
    for number, episode in enumerate(episodes):
        policy.reset(7)
        for step, observation in enumerate(episode):
            np.testing.assert_allclose(policy.act(observation).actions, together[step][number], atol=1e-5)
    assert not np.allclose(together[0][0], together[0][1], atol=1e-4)


def test_reset_clears_the_history_and_the_seed_decides(folder: Path) -> None:
    policy, episode = ready(folder), seen(3)
    first = [policy.act(observation).actions for observation in episode]
    policy.reset(7)
    again = [policy.act(observation).actions for observation in episode]
    np.testing.assert_array_equal(first, again)
    policy.reset(7)
    if policy.spec.history > 1:
        policy.remember([seen(1, episode=3)[0]])
        assert not np.allclose(policy.act(episode[0]).actions, first[0]), "what came before must count"
    if policy.family != "act":  # which is deterministic
        policy.reset(8)
        assert not np.allclose(policy.act(episode[0]).actions, first[0])


def test_other_randomness_is_left_alone(folder: Path) -> None:
    policy = ready(folder)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    policy.act(small.observation(0))
    assert torch.equal(torch.rand(4), expected)


def test_its_spec_says_what_it_reads(folder: Path) -> None:
    spec = LeRobotPolicy(folder).spec
    assert dict(spec.cameras) == {"front": (32, 32), "wrist": (32, 32)}
    assert spec.state_names == ("x", "y", "z", "goal") and spec.action_space == EE_DELTA
    expected = {"act": (6, (), 1), "diffusion": (4, (), 2), "smolvla": (6, ("language",), 1)}
    assert (spec.horizon, spec.goals, spec.history) == expected[folder.name]


def test_larger_pictures_are_averaged_to_the_size_of_training(act_folder: Path) -> None:
    """64 px averaged over blocks of 2 are the 32 px that the policy was made for."""
    large = small.observation(0)
    blocks = {
        camera: np.round(image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))).astype(np.uint8)
        for camera, image in large.images.items()
    }
    policy = ready(act_folder)
    expected = policy.act(Observation(blocks, large.state, large.instruction, large.time)).actions
    np.testing.assert_allclose(policy.act(large).actions, expected, atol=1e-4)


def test_temporal_ensembling_is_lerobots(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "act", "act", temporal_ensemble_coeff=0.01, n_action_steps=1)
    policy, episode = ready(folder), seen(9)
    assert policy.spec.horizon == 1
    theirs = lerobot_runs(folder, [[observation] for observation in episode], seed=7)[:, 0]
    np.testing.assert_allclose(follow(policy, episode, execute=4, seed=7), theirs, atol=1e-5)


def test_episodes_side_by_side_are_what_each_is_alone(folder: Path, tmp_path: Path) -> None:
    check_shared(ready(folder), small.observation)
    if folder.name == "act":
        ensembling = small.save(tmp_path / "act", "act", temporal_ensemble_coeff=0.01, n_action_steps=1)
        check_shared(ready(ensembling), small.observation)


def test_what_an_episode_remembers_is_its_own(tmp_path: Path) -> None:
    """Two episodes, shown the same at the end; only what the first remembers is another."""
    policy = ready(small.save(tmp_path / "diffusion", "diffusion"))
    episode = seen(3)
    policy.reset(7)
    policy.act(episode[0])
    policy.remember([episode[1]])
    expected = policy.act(episode[2])
    first, other = policy.begin(7), policy.begin(7)
    policy.act_episodes([first, other], [episode[0]] * 2)
    policy.remember_episodes([other, first], [small.observation(50), episode[1]])
    chunks = policy.act_episodes([first, other], [episode[2]] * 2)
    np.testing.assert_allclose(chunks[0].actions, expected.actions, atol=1e-6)
    assert np.abs(chunks[1].actions - expected.actions).max() > 1e-5


def test_a_renaming_of_the_checkpoint_is_followed(act_folder: Path) -> None:
    """Trained with --rename_map, the policy has its own names for what the dataset calls front and x, y, z."""
    expected = ready(act_folder).act(small.observation(0)).actions
    renamed = {"observation.images.front": "observation.images.camera1"}
    text = (act_folder / "config.json").read_text().replace("observation.images.front", "observation.images.camera1")
    (act_folder / "config.json").write_text(text)
    path = act_folder / "policy_preprocessor.json"
    pipeline = json.loads(path.read_text())
    for step in pipeline["steps"]:
        if step["registry_name"] == "rename_observations_processor":
            step["config"]["rename_map"] = renamed
        if step["registry_name"] == "normalizer_processor":
            of = step["config"]["features"]
            of["observation.images.camera1"] = of.pop("observation.images.front")
            change_statistics(act_folder / step["state_file"], "observation.images.front", "observation.images.camera1")
    path.write_text(json.dumps(pipeline))
    assert dict(LeRobotPolicy(act_folder).spec.cameras) == {"front": (32, 32), "wrist": (32, 32)}
    np.testing.assert_allclose(ready(act_folder).act(small.observation(0)).actions, expected, atol=1e-5)


def change_statistics(path: Path, old: str, new: str | None) -> None:
    """Rename a feature among the saved statistics; None removes it."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    kept = {name: value for name, value in tensors.items() if not name.startswith(f"{old}.")}
    moved = {name.replace(old, new): tensors[name] for name in tensors if name not in kept} if new else {}
    save_file(kept | moved, path)


def test_cameras_of_other_names_are_mapped(tmp_path: Path) -> None:
    other = RobotSpec({"left": (64, 64), "wrist": (64, 64)}, small.ROBOT.state_names, EE_DELTA)
    folder, given = small.save(tmp_path / "act", "act"), small.observation(0)
    expected = ready(folder).act(given).actions
    policy = LeRobotPolicy(folder, LeRobotSettings(rename={"left": "front"}))
    policy.bind(other)
    policy.reset(7)
    images = {"left": given.images["front"], "wrist": given.images["wrist"]}
    actions = policy.act(Observation(images, given.state, given.instruction, 0.0)).actions
    np.testing.assert_array_equal(actions, expected)
    with pytest.raises(TongsError, match="'observation.images.top'; known are: observation.images.front"):
        LeRobotPolicy(folder, LeRobotSettings(rename={"left": "top"}))


def test_sampling_settings_replace_those_of_the_checkpoint(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "diffusion", "diffusion")
    policy = LeRobotPolicy(folder, sampling={"num_inference_steps": 5})
    assert policy.sampling == {"num_inference_steps": 5, "noise_scheduler_type": "DDPM"}
    with pytest.raises(TongsError, match="unknown sampling setting 'steps'; known are: noise_scheduler_type, num_inf"):
        LeRobotPolicy(folder, sampling={"steps": 5})


def test_names_come_from_the_dataset_that_the_checkpoint_names(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "act", "act", info=None)
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "info.json").write_text(json.dumps(small.INFO))
    training = {"dataset": {"repo_id": "local/data", "root": str(tmp_path / "data")}}
    (folder / "train_config.json").write_text(json.dumps(training))
    assert LeRobotPolicy(folder).spec.state_names == ("x", "y", "z", "goal")
    assert deciding_files(folder)["dataset_info.json"] == tmp_path / "data" / "meta" / "info.json"


def test_names_can_be_given(tmp_path: Path) -> None:
    folder = small.save(tmp_path / "act", "act", info=None)
    given = LeRobotSettings("ee_delta", ("x", "y", "z"), "goal")
    assert LeRobotPolicy(folder, given).spec == LeRobotPolicy(small.save(tmp_path / "told", "act")).spec


SO_INFO = {
    "robot_type": "so_follower",
    "fps": 30,
    "features": {
        key: {"dtype": "float32", "shape": [6], "names": [f"{name}.pos" for name in so_arm.NAMES]}
        for key in ("observation.state", "action")
    },
}


@pytest.fixture
def so_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ACT as LeRobot trains it on recordings of an SO-101: six positions in degrees and percents, one camera."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    vector = {"mean": torch.tensor([5.0, -40.0, 60.0, 10.0, 0.0, 30.0]), "std": torch.tensor([*[15.0] * 5, 10.0])}
    picture = small.statistics()["observation.images.front"]
    kept = {"observation.images.front": picture, "observation.state": vector, "action": vector}
    monkeypatch.setattr(small, "statistics", lambda: kept)
    inputs = {
        "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, *small.SIZE)),
        "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (6,))}
    return small.save(tmp_path / "so101", "act", SO_INFO, input_features=inputs, output_features=outputs)


def test_a_policy_of_an_so_arm_speaks_degrees_and_is_told_radians(so_folder: Path) -> None:
    policy = LeRobotPolicy(so_folder, LeRobotSettings("so_arm"))
    assert policy.spec.action_space == so_arm.so_arm_space(30.0) and policy.spec.state_names == so_arm.NAMES
    turned = np.array([0.1, -0.7, 1.0, 0.2, -0.1, 0.25], np.float32)  # rad, and an opening
    picture = np.full((*small.SIZE, 3), 90, np.uint8)
    robot = RobotSpec({"front": small.SIZE}, so_arm.NAMES, replace(policy.spec.action_space, low=(-1.0,) * 5 + (0.0,)))
    policy.bind(robot)  # another arm of the kind, with a narrower range
    policy.reset(0)
    chunk = policy.act(Observation({"front": picture}, turned, "", 1.0))
    percents = torch.tensor([*np.rad2deg(turned[:5]), 100 * turned[5]])[None]
    pictures = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    batch = {"observation.state": percents, "observation.images.front": pictures, "task": [""]}
    loaded = policy._loaded
    with torch.inference_mode():
        actions = loaded.postprocessor(loaded.policy.predict_action_chunk(loaded.preprocessor(batch))[0]).numpy()
    np.testing.assert_allclose(chunk.actions[:, :5], np.deg2rad(actions[:, :5]), atol=1e-5)
    np.testing.assert_allclose(chunk.actions[:, 5], actions[:, 5] / 100, atol=1e-5)
    assert np.allclose(np.diff(chunk.times), 1 / 30)


def test_an_so_arm_has_to_be_named_and_has_its_own_joints(so_folder: Path) -> None:
    with pytest.raises(TongsError, match="shoulder_pan.pos, .* whose frame and units are not known.*so_arm"):
        LeRobotPolicy(so_folder)
    koch = {"shape": [6], "names": [f"joint_{number}.pos" for number in range(6)]}
    info = SO_INFO | {"features": SO_INFO["features"] | {"action": koch}}
    (so_folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(TongsError, match="trained on actions joint_0.pos, .*, and so_arm has shoulder_pan.pos, "):
        LeRobotPolicy(so_folder, LeRobotSettings("so_arm"))


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def without_statistics(folder: Path) -> None:
    change_statistics(next(folder.glob("policy_preprocessor_step_*")), "observation.state", None)


def without_action_statistics(folder: Path) -> None:
    change_statistics(next(folder.glob("policy_postprocessor_step_*")), "action", None)


def broken_statistics(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = next(folder.glob("policy_preprocessor_step_*"))
    tensors = load_file(path)
    tensors["observation.state.std"][1] = float("nan")
    save_file(tensors, path)


def without_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.action_head.bias"]
    save_file(tensors, folder / "model.safetensors")


def of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dim_model": 64}))


def only_an_adapter(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"use_peft": True}))


def with_info(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / "dataset_info.json").write_text(json.dumps(small.INFO | changes)) and None


OTHER_ACTIONS = small.INFO["features"] | {"action": {"shape": [7], "names": [f"joint_{i}.pos" for i in range(7)]}}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("model.safetensors"), "it has no model.safetensors"),
        (without("policy_preprocessor.json"), "no policy_preprocessor.json; LeRobot's migrate_policy_normalization"),
        (without_statistics, "statistic 'mean' of 'observation.state' is missing, and MEAN_STD needs it"),
        (without_action_statistics, "statistic 'mean' of 'action' is missing"),
        (broken_statistics, "statistic 'std' of 'observation.state' holds NaN"),
        (without_a_weight, r"weight 'model.action_head.bias' is missing \(1 in all\)"),
        (of_another_width, "does not fit config.json.*size mismatch"),
        (only_an_adapter, "only a PEFT adapter"),
        (without("dataset_info.json"), "does not say what the 3 entries of its observation.state are.*dataset_info"),
        (with_info(robot_type="so100"), "robot 'so100'.*frame and units are not known.*lerobot.action_space"),
        (with_info(features=OTHER_ACTIONS), "actions joint_0.pos, .*lerobot.action_space=.ee_delta"),
        (with_info(fps=30), "at 30 Hz, and actions of ee_delta are at 10 Hz"),
    ],
)
def test_what_is_said_of_an_incomplete_checkpoint(act_folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(act_folder)
    with pytest.raises(TongsError, match=said) as caught:
        LeRobotPolicy(act_folder)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_another_robot_or_observation(act_folder: Path) -> None:
    policy, given = LeRobotPolicy(act_folder), small.observation(0)
    policy.reset(0)
    with pytest.raises(ContractError, match="bind"):
        policy.act(given)
    with pytest.raises(ContractError, match="reads state goal which the robot does not have"):
        policy.bind(RobotSpec(small.ROBOT.cameras, ("x", "y", "z"), EE_DELTA))
    with pytest.raises(ContractError, match="camera wrist is wanted at 32x32 and the robot gives 16x16"):
        policy.bind(RobotSpec({"front": (64, 64), "wrist": (16, 16)}, small.ROBOT.state_names, EE_DELTA))
    policy.bind(small.ROBOT)
    with pytest.raises(ContractError, match="needs camera 'wrist'; the observation has: front"):
        policy.act(Observation({"front": given.images["front"]}, given.state, given.instruction, 0.0))
    fresh = LeRobotPolicy(act_folder)
    fresh.bind(small.ROBOT)
    with pytest.raises(ContractError, match="reset"):
        fresh.act(given)


def test_histories_belong_to_episodes(tmp_path: Path) -> None:
    policy = ready(small.save(tmp_path / "diffusion", "diffusion"))
    policy.act_batch([small.observation(0), small.observation(1)])
    with pytest.raises(ContractError, match="1 observations after 2 in the same episodes"):
        policy.act(small.observation(0))


def test_what_is_said_when_there_is_no_policy(tmp_path: Path, act_folder: Path) -> None:
    with pytest.raises(TongsError, match="no folder /nowhere/act, and it is no repository"):
        find_folder("/nowhere/act")
    with pytest.raises(TongsError, match="it has no config.json; give .*pretrained_model"):
        act_folder.rename(tmp_path / "pretrained_model")
        find_folder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"type": "pi0"}')
    find_folder.cache_clear()
    with pytest.raises(TongsError, match="'pi0'; known are: act, diffusion, smolvla"):
        find_folder(str(tmp_path))
