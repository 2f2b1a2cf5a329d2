"""Tongs inside LeRobot 0.4: our policies as its policy type "tongs", our tasks as its environment type "tongs".

    lerobot-eval --env.discover_packages_path=lerobot_policy_tongs --env.type=tongs --env.task=open_drawer \\
        --policy.type=tongs --policy.checkpoint=beso --policy.device=cpu \\
        --eval.n_episodes=10 --eval.batch_size=1 --seed=0

Importing this package registers both. The names of its modules, classes and functions are those that LeRobot looks for.
"""

# pyright: reportMissingImports=false

from lerobot_policy_tongs.configuration_tongs import TongsConfig
from lerobot_policy_tongs.environment import TongsEnv

__all__ = ["TongsConfig", "TongsEnv"]
