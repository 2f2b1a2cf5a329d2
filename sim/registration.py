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
    "tabletop_spatial": "tongs/TabletopSpatial-v0",
    "tabletop_counting": "tongs/TabletopCounting-v0",
    "tabletop_conditional": "tongs/TabletopConditional-v0",
    "tabletop_shapes": "tongs/TabletopShapes-v0",
    "tabletop_references": "tongs/TabletopReferences-v0",
    "tabletop_long": "tongs/TabletopLong-v0",
    "planning_plain": "tongs/PlanningPlain-v0",
    "planning_ambiguous": "tongs/PlanningAmbiguous-v0",
    "planning_infeasible": "tongs/PlanningInfeasible-v0",
    "planning_unsafe": "tongs/PlanningUnsafe-v0",
}
"""{task: gymnasium id}"""


def register() -> None:
    """Make the environments known; calling it again changes nothing."""
    for task, name in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, "sim.environment:ManipulationEnvironment", kwargs={"task": task})
