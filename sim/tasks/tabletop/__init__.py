"""Blocks and bowls on an open table, and what may be asked of them: a suite after that of Code as Policies, and
requests for a planner after those of Grounded Decoding."""

from sim.tasks.tabletop.planning import PLANNED_TASKS, Planned
from sim.tasks.tabletop.task import TABLETOP_TASKS, Tabletop

__all__ = ["PLANNED_TASKS", "TABLETOP_TASKS", "Planned", "Tabletop"]
