"""Tells gymnasium the names of our environments, without importing any of them."""

from __future__ import annotations

import gymnasium

IDS = {
    "pickup_object": "tongs/PickupObject-v0",
    "reorient_object": "tongs/ReorientObject-v0",
    "open_drawer": "tongs/OpenDrawer-v0",
    "close_drawer": "tongs/CloseDrawer-v0",
    "open_cabinet": "tongs/OpenCabinet-v0",
    "close_cabinet": "tongs/CloseCabinet-v0",
    "pour_water": "tongs/PourWater-v0",
    "transfer_water": "tongs/TransferWater-v0",
    "compose": "tongs/Compose-v0",
}
"""{task: gymnasium id}"""


def register() -> None:
    """Make the environments known; calling it again changes nothing."""
    for task, name in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, "sim.environment:ManipulationEnvironment", kwargs={"task": task})
