"""LeRobot's policy type "tongs": a policy of ours behind LeRobot's interface."""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_tongs.configuration_tongs import TongsConfig
from policies.base import PolicyModule
from robot.errors import TongsError
from robot.interface import Observation, RememberingPolicy, RobotSpec
from sim.scenes import generator
from sim.world import STATE_NAMES
from tongs import load_policy

IMAGES, STATE = "observation.images.", "observation.state"
CHECKPOINT = "tongs"
"""Our checkpoint's folder within a saved LeRobot folder."""


class TongsPolicy(PreTrainedPolicy):
    """Turns LeRobot's batches into `Observation`s and our chunks into LeRobot's actions.

    Images come as float32 (B, 3, H, W) in 0..1 and become the uint8 pictures that they were; the instruction is the
    batch's `task`. A changed instruction drops what is left of the chunk.

    Raises:
        TongsError: there is no such checkpoint, or it does not fit the features.
    """

    config_class = TongsConfig  # type: ignore[assignment]
    name = "tongs"  # type: ignore[assignment]

    def __init__(self, config: TongsConfig, **_: Any) -> None:
        super().__init__(config)
        self._settings = config
        policy = load_policy(config.checkpoint)
        if not isinstance(policy, PolicyModule):
            raise TongsError(
                f"{config.checkpoint!r} is no network of ours; LeRobot's own go to lerobot-eval as --policy.path"
            )
        self.policy = policy.to(config.device)
        self.policy.bind(_robot(config, policy))
        self._episodes = 0
        self._forget(0)

    def _forget(self, seed: int) -> None:
        self.policy.reset(seed)
        self._actions: deque[Tensor] = deque()
        self._instructions: list[str] = []
        self._step = 0

    def reset(self) -> None:
        """Begin the next episode; called once per batch of environments."""
        scenes = self._settings.scenes
        if scenes is None:
            seed = int(torch.randint(2**31, (1,)))
        else:
            task, split, first = _parse_scenes(scenes)
            seed = int(generator(task, split, first + self._episodes, "policy").integers(2**31))
        self._episodes += 1
        self._forget(seed)

    def predict_action_chunk(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """Actions (B, H, A) in physical units."""
        chunks = self.policy.act_batch(self._observations(batch))
        return torch.stack([torch.from_numpy(chunk.actions) for chunk in chunks]).to(self.policy.device)

    def select_action(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """The actions (B, A) of this control step."""
        if not self._actions or batch["task"] != self._instructions:
            chunk = self.predict_action_chunk(batch)[:, : self._settings.execute]
            self._actions, self._instructions = deque(chunk.unbind(1)), batch["task"]
        elif self.policy.spec.history > 1:
            cast(RememberingPolicy, self.policy).remember(self._observations(batch))
        self._step += 1
        return self._actions.popleft()

    def _observations(self, batch: Mapping[str, Any]) -> list[Observation]:
        pictures = {
            key.removeprefix(IMAGES): (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            for key, images in batch.items()
            if key.startswith(IMAGES)
        }
        time = self._step / self.policy.spec.action_space.rate
        return [
            Observation({camera: images[row] for camera, images in pictures.items()}, state, instruction, time)
            for row, (state, instruction) in enumerate(
                zip(batch[STATE].float().cpu().numpy(), batch["task"], strict=True)
            )
        ]

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any] | None]:
        raise TongsError("a policy of type tongs is trained by `tongs train`, not by lerobot-train")

    def get_optim_params(self) -> dict[str, Any]:
        raise TongsError("a policy of type tongs is trained by `tongs train`, not by lerobot-train")

    def _save_pretrained(self, save_directory: Path) -> None:
        self.config._save_pretrained(save_directory)
        self.policy.save(save_directory / CHECKPOINT)

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **_: Any
    ) -> TongsPolicy:
        """The policy in a saved LeRobot folder, or in a repository of the hub that holds one."""
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(str(pretrained_name_or_path)))
        config = config or PreTrainedConfig.from_pretrained(folder)
        assert isinstance(config, TongsConfig)
        config.checkpoint = str(folder / CHECKPOINT)
        return cls(config).eval()


def _robot(config: TongsConfig, policy: PolicyModule) -> RobotSpec:
    """What LeRobot's features say of the robot; their vectors have no names, which the configuration gives."""
    features = config.input_features or {}
    names = tuple(STATE_NAMES if config.state_names is None else config.state_names)
    if STATE not in features or features[STATE].shape != (len(names),):
        has = tuple(features[STATE].shape) if STATE in features else "nothing"
        raise TongsError(f"{STATE} must have {len(names)} entries ({', '.join(names)}), and there is {has}")
    cameras = {
        key.removeprefix(IMAGES): (of.shape[1], of.shape[2])
        for key, of in features.items()
        if of.type is FeatureType.VISUAL
    }
    space, action = policy.spec.action_space, (config.output_features or {}).get("action")
    if action is not None and tuple(action.shape) != (space.dimension,):
        raise TongsError(f"{config.checkpoint} gives {space.kind} actions of {space.dimension}, wanted: {action.shape}")
    return RobotSpec(cameras, names, space)


def _parse_scenes(scenes: str) -> tuple[str, str, int]:
    task, _, rest = scenes.partition("/")
    split, _, first = rest.partition("/")
    if not first.isdecimal():
        raise TongsError(f"policy.scenes must be task/split/first such as open_drawer/test/0, got {scenes!r}")
    return task, split, int(first)
