"""Collecting demonstrations of the pushing world: every scene once, each in one of the equally good ways."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
from rich.progress import track

from data.features import ACTION, IMAGES, SCENE, SCENE_NAMES, STATE, robot_features, vector
from data.reader import Dataset
from data.writer import DatasetWriter
from robot.interface import PLANAR_DELTA
from sim.block_push.expert import MODES, Mode, PushExpert
from sim.block_push.scene import NAME
from sim.block_push.world import MAX_STEPS, STATE_NAMES, PushWorld, instruction
from sim.scenes import generator
from train.recording import Demonstration, add_episode, encoded

CAMERA_SIZE = (128, 128)
ROBOT_TYPE = "planar_pusher_mujoco"


def collect_pushing(output: str, episodes: int, split: str = "train", start: int = 0, images: bool = True) -> Path:
    """Record demonstrations until `output`/block_push holds `episodes`; a folder that has some is continued.

    Args:
        output: the folder that gets the dataset.
        episodes: demonstrations in the end.
        split, start: scenes are taken in order from this number of this split.
        images: record the camera from above, which needs OpenGL.
    """
    folder = Path(output) / NAME
    features = robot_features({"top": CAMERA_SIZE} if images else {}, STATE_NAMES, PLANAR_DELTA.names)
    features[SCENE] = vector(SCENE_NAMES, "int64")
    first = start
    if (folder / "meta" / "info.json").exists() and (dataset := Dataset(folder)).total_frames:
        first = int(dataset.columns[SCENE][-1][0]) + 1
    world = PushWorld({"top": CAMERA_SIZE} if images else None)
    try:
        with DatasetWriter(folder, round(PLANAR_DELTA.rate), features, ROBOT_TYPE) as writer:
            scenes = count(first)
            for _ in track(range(episodes - writer.episodes), NAME):
                recorded = None
                while recorded is None:
                    recorded = demonstrate(world, split, next(scenes))
                add_episode(writer, recorded)
    finally:
        world.close()
    return folder


def demonstrate(world: PushWorld, split: str, index: int) -> Demonstration | None:
    """One episode in the way that belongs to the scene's number; None if it does not deliver both blocks."""
    rng = generator(NAME, split, index, "expert")
    mode: Mode = MODES[int(rng.integers(len(MODES)))]
    world.reset(split, index, mode.wanted)
    expert = PushExpert(world, mode)
    expert.reset(int(rng.integers(2**31)))
    states, actions, pictures = [], [], []
    while world.steps < MAX_STEPS and not expert.done:
        observation = world.observe()
        action = expert.act(observation).actions[0]
        states.append(observation.state)
        actions.append(action)
        pictures.append(observation.images.get("top"))
        world.execute(action)
    if world.result < 1:
        return None
    scene = np.tile(np.array([index, 0]), (len(states), 1))
    columns = {STATE: np.stack(states), ACTION: np.stack(actions), SCENE: scene}
    videos = {IMAGES + "top": encoded(pictures, PLANAR_DELTA.rate)} if world.cameras else {}
    return Demonstration(columns, [instruction(mode.wanted)] * len(states), videos)
