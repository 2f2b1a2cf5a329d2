"""LeRobot's ACT and Diffusion trained on one task of ours by LeRobot's own trainer: the rows beside ours in the tables.

    tongs collect task=open_drawer episodes=1200 output=outputs/demonstrations
    python benchmarks/baselines.py data outputs/demonstrations/open_drawer outputs/baselines/open_drawer
    python benchmarks/baselines.py train act outputs/baselines/open_drawer outputs/baselines/act --steps 6000
    tongs eval policy=lerobot:outputs/baselines/act/checkpoints/last/pretrained_model task=open_drawer episodes=100

Needs the extra lerobot and no network. Neither policy reads words, so `data` makes the dataset that they can learn
from: the same frames, and as `observation.environment_state` what the instruction asks for, in the two numbers of
`sim.world.GOAL_NAMES` instead of the privileged truth. `train` prints the command of lerobot-train that it runs; run
again with the same output and more steps, it goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from data import layout
from data.features import ACTION, ENVIRONMENT_STATE, IMAGES, SCENE, STATE, robot_features
from data.reader import Dataset, read_info
from data.writer import DatasetWriter
from robot.errors import TongsError
from robot.images import scale_down
from sim.scenes import VARIANTS
from sim.world import ENVIRONMENT_STATE_NAMES, GOAL_NAMES, World

_GOAL = ENVIRONMENT_STATE_NAMES.index("goal")
_BACKBONE = {"vision_backbone": "resnet18", "pretrained_backbone_weights": "null"}
SETTINGS: dict[str, Mapping[str, object]] = {
    "act": _BACKBONE
    | {
        "chunk_size": 12,
        "n_action_steps": 4,
        "dim_model": 256,
        "dim_feedforward": 1024,
        "optimizer_lr": 1e-4,
        "optimizer_lr_backbone": 1e-4,
    },
    "diffusion": _BACKBONE
    | {
        "n_obs_steps": 2,
        "horizon": 16,
        "n_action_steps": 8,
        "down_dims": "[128,256,512]",
        "crop_shape": "[88,88]",
        "noise_scheduler_type": "DDIM",
        "num_inference_steps": 10,
    },
}
"""What differs from LeRobot's defaults: networks that two CPU cores can train. Like ours, the eyes start untrained; so
ACT's get the learning rate of the rest, where LeRobot's default is meant for eyes that were trained on ImageNet."""


def prepare(source: Path, output: Path, image_size: int, task: str, split: str, episodes: int | None) -> None:
    """Write a dataset with pictures of `image_size` px and the goal in numbers; one that was cut short is continued.

    The scene numbers of the source say what was asked for; a source of another task or split is found out by the goal
    values that it holds.
    """
    dataset, info = Dataset(source), read_info(source)
    cameras = [key.removeprefix(IMAGES) for key in info["features"] if key.startswith(IMAGES)]
    state_names, action_names = (tuple(info["features"][key]["names"]) for key in (STATE, ACTION))
    features = robot_features(
        dict.fromkeys(cameras, (image_size, image_size)), state_names, action_names, environment_state_names=GOAL_NAMES
    )
    world = World(task, {}, tell_goal=True)
    count = min(episodes or len(dataset.episodes), len(dataset.episodes))
    with DatasetWriter(output, int(info["fps"]), features, str(info["robot_type"])) as writer:
        for episode in track(range(writer.episodes, count), f"{task}, {count} episodes"):
            begin = sum(one.length for one in dataset.episodes[:episode])
            rows = slice(begin, begin + dataset.episodes[episode].length)
            columns = {key: dataset.columns[key][rows] for key in (STATE, ACTION)}
            scene, variant = (int(number) for number in dataset.columns[SCENE][begin])
            world.reset(split, scene, VARIANTS[variant])
            goal = world.observe(images=False).state[-len(GOAL_NAMES) :]
            recorded = dataset.columns[ENVIRONMENT_STATE][begin][_GOAL]
            if abs(goal[1] - recorded) > 1e-4:
                raise TongsError(
                    f"episode {episode} of {source} has the goal {recorded:.3f}, and scene {scene} of {task}, split "
                    f"{split}, has {goal[1]:.3f}: it is of another task or split (--task, --split), or older"
                )
            columns[ENVIRONMENT_STATE] = np.tile(goal, (dataset.episodes[episode].length, 1))
            images = {
                IMAGES + name: scale_down(dataset.images(episode, IMAGES + name), (image_size, image_size))
                for name in cameras
            }
            writer.add_episode(columns, dataset.frame_tasks(episode), images=images)
    world.close()


def training_command(
    family: str, data: Path, output: Path, steps: int, save: int, batch: int, workers: int
) -> list[str]:
    """The command of LeRobot's trainer; it goes on from the last checkpoint in `output`, if there is one."""
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_train"]
    settings: dict[str, object] = {"steps": steps, "save_freq": save}
    last = output / "checkpoints" / "last" / "pretrained_model" / "train_config.json"
    if last.is_file():
        settings |= {"config_path": last, "resume": "true"}
    else:
        settings |= {
            "dataset.repo_id": f"local/{data.name}",
            "dataset.root": data.resolve(),
            "dataset.video_backend": "pyav",
            "output_dir": output,
            "batch_size": batch,
            "num_workers": workers,
            "log_freq": 50,
            "eval_freq": 0,
            "policy.type": family,
            "policy.device": "cpu",
            "policy.push_to_hub": "false",
            **{f"policy.{key}": value for key, value in SETTINGS[family].items()},
        }
    return [*command, *(f"--{key}={value}" for key, value in settings.items())]


def train(command: Sequence[str], data: Path, output: Path, bf16: bool) -> None:
    """Run the command, then put the dataset's description beside each checkpoint's weights, which makes it complete."""
    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} | (
        {"ACCELERATE_MIXED_PRECISION": "bf16"} if bf16 else {}
    )
    print(shlex.join(["env", *(f"{name}={value}" for name, value in settings.items()), *command]), flush=True)
    subprocess.run(command, check=True, env=os.environ | settings)
    for folder in output.glob("checkpoints/[0-9]*/pretrained_model"):
        shutil.copyfile(data / layout.INFO, folder / "dataset_info.json")
    print(output / "checkpoints" / "last" / "pretrained_model")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="the same demonstrations with the goal in numbers")
    data.add_argument("source", type=Path, help="a dataset of tongs collect")
    data.add_argument("output", type=Path)
    data.add_argument("--image-size", type=int, default=96)
    data.add_argument("--task", help="by default the name of the source folder")
    data.add_argument("--split", default="train", help="split that the scenes were taken from")
    data.add_argument("--episodes", type=int, help="only the first so many")
    training = commands.add_parser("train", help="lerobot-train with settings for two CPU cores")
    training.add_argument("family", choices=sorted(SETTINGS))
    training.add_argument("data", type=Path, help="what the command data wrote")
    training.add_argument("output", type=Path)
    training.add_argument("--steps", type=int, default=6000)
    training.add_argument("--save-every", type=int, default=1000)
    training.add_argument("--batch-size", type=int, default=16)
    training.add_argument("--bf16", action="store_true", help="compute in bfloat16 (avx512_bf16 of the processor)")
    training.add_argument("--workers", type=int, default=1, help="processes that load data")
    given = parser.parse_args(words)
    try:
        if given.command == "data":
            task = given.task or given.source.resolve().name
            prepare(given.source, given.output, given.image_size, task, given.split, given.episodes)
        else:
            command = training_command(
                given.family, given.data, given.output, given.steps, given.save_every, given.batch_size, given.workers
            )
            train(command, given.data, given.output, given.bf16)
    except TongsError as error:
        print(f"baselines: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
