"""Qualities of service by ROS 2's names: what a topic's publisher offers and its subscriber asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """What `rmw_qos_profile_t` says of delivery.

    Attributes:
        reliable: lost messages are sent again; a best-effort publisher never reaches a reliable subscriber.
        latched: transient local: who comes late gets the last messages too; a volatile publisher never reaches a
            transient-local subscriber.
        depth: messages that are kept; None for all.
    """

    reliable: bool = True
    latched: bool = False
    depth: int | None = 10

    def reaches(self, asked: Quality) -> bool:
        """Whether a publisher that offers this and a subscriber that asks for the other find each other."""
        return self.reliable >= asked.reliable and self.latched >= asked.latched


DEFAULT = Quality()
SENSOR = Quality(reliable=False, depth=5)
"""Sensor data: a picture that is lost is old anyway."""
LATCHED = Quality(latched=True, depth=1)
"""The last one counts, also for who comes late: instructions, status, emergency stop."""
