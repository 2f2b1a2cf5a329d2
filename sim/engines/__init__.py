"""Physics engines behind one protocol, by the names that users type."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    from sim.engines.base import Engine

ENGINES = ("mujoco", "bullet")
DEFAULT = "mujoco"


def require_engine(name: str) -> None:
    """Raise a TongsError unless the engine is known and installed."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name == "bullet" and find_spec("pybullet") is None:
        raise TongsError("engine=bullet needs PyBullet, which is not installed; run: pip install 'tongs[bullet]'")


def make_engine(name: str = DEFAULT, quality: str = "fast") -> Engine:
    """An engine without a world yet.

    Raises:
        TongsError: there is no engine of that name, it is not installed, or the render quality is unknown.
    """
    require_engine(name)
    if name == "bullet":
        from sim.engines.bullet import BulletEngine

        return BulletEngine(quality)
    from sim.engines.mujoco import MujocoEngine

    return MujocoEngine(quality)
