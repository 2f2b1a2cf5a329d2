"""The tasks, by the names that users type."""

from robot.errors import unknown
from sim.tasks.base import Goal, SceneSpec, Task
from sim.tasks.compose import Compose
from sim.tasks.furniture import CloseCabinet, CloseDrawer, OpenCabinet, OpenDrawer
from sim.tasks.pickup_object import PickupObject
from sim.tasks.reorient_object import ReorientObject
from sim.tasks.tabletop import PLANNED_TASKS, TABLETOP_TASKS
from sim.tasks.water import PourWater, TransferWater

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        PickupObject(),
        ReorientObject(),
        OpenDrawer(),
        CloseDrawer(),
        OpenCabinet(),
        CloseCabinet(),
        PourWater(),
        TransferWater(),
        Compose(),
        *TABLETOP_TASKS,
        *PLANNED_TASKS,
    )
}
TABLETOP = tuple(task.name for task in TABLETOP_TASKS)
"""The table-top suite: a task for each category of instructions."""
PLANNING = tuple(task.name for task in PLANNED_TASKS)
"""Requests for a planner, a task for each category."""
SINGLE = tuple(name for name in TASKS if name not in (Compose.name, *TABLETOP, *PLANNING))
"""ARNOLD's eight tasks, which ask for one thing each."""


def find_task(name: str) -> Task:
    """The task of that name, or an error that lists the known ones."""
    if name not in TASKS:
        raise unknown("task", name, list(TASKS))
    return TASKS[name]


__all__ = ["PLANNING", "SINGLE", "TABLETOP", "TASKS", "Goal", "SceneSpec", "Task", "find_task"]
