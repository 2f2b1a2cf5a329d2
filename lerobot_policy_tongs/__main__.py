"""Write a policy of ours as a LeRobot folder: python -m lerobot_policy_tongs beso outputs/beso-for-lerobot"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robot.errors import TongsError


def export(checkpoint: str, folder: Path) -> None:
    """Save a checkpoint of ours for `lerobot-eval --policy.path`, with its processors.

    Raises:
        TongsError: there is no such checkpoint, or the folder is not empty.
    """
    from lerobot.configs.types import FeatureType, PolicyFeature

    from lerobot_policy_tongs.configuration_tongs import TongsConfig
    from lerobot_policy_tongs.modeling_tongs import TongsPolicy
    from lerobot_policy_tongs.processor_tongs import make_tongs_pre_post_processors
    from sim.world import STATE_NAMES
    from tongs import load_policy

    if folder.exists() and any(folder.iterdir()):
        raise TongsError(f"{folder} is not empty; choose another folder")
    spec = load_policy(checkpoint).spec
    inputs = {
        f"observation.images.{camera}": PolicyFeature(FeatureType.VISUAL, (3, *size))
        for camera, size in spec.cameras.items()
    }
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (len(STATE_NAMES),))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (spec.action_space.dimension,))}
    config = TongsConfig(checkpoint=checkpoint, input_features=inputs, output_features=outputs, device="cpu")
    TongsPolicy(config).save_pretrained(folder)
    for processor in make_tongs_pre_post_processors(config):
        processor.save_pretrained(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="name of a shipped checkpoint, or a checkpoint folder")
    parser.add_argument("folder", type=Path, help="the folder to write")
    given = parser.parse_args()
    try:
        export(given.checkpoint, given.folder)
    except TongsError as error:
        print(f"lerobot_policy_tongs: {error}", file=sys.stderr)
        return 2
    print(given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
