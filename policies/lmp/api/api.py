"""All functions that a program may get, by name; a domain picks from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from policies.lmp.api import geometry
from policies.lmp.api.arm import Arm
from policies.lmp.api.motion import Motion
from policies.lmp.api.perception import Perception
from policies.lmp.api.pouring import Pouring
from policies.lmp.api.speech import Speech
from robot.interface import Policy, Scene


@dataclass(frozen=True)
class Api:
    """The API on one arm in one scene.

    Attributes:
        functions: by the names that programs use.
    """

    perception: Perception
    motion: Motion
    speech: Speech
    functions: Mapping[str, Callable[..., Any]]

    def reset(self) -> None:
        """A new episode starts: nothing is held, nothing is remembered."""
        self.motion.arm.gripper, self.motion.held = 1.0, None
        self.perception.reset()
        self.motion.begin()

    def begin(self) -> None:
        """A new command starts."""
        self.perception.begin()
        self.motion.begin()


def make_api(arm: Arm, scene: Scene, speech: Speech, learned: Policy | None = None) -> Api:
    """Every function of the API.

    Args:
        arm: to move.
        scene: to ask where things are.
        speech: to the person.
        learned: a policy that follows instructions.
    """
    see = Perception(scene)
    motion = Motion(arm, see, learned)
    pouring = Pouring(motion, see)
    functions = [
        *(see.get_obj_names, see.find_objects, see.is_obj_visible, see.get_obj_pos, see.get_obj_pose),
        *(see.get_obj_pos_before, see.get_joint_fraction_before, see.get_bbox, see.get_obj_size, see.get_color),
        *(see.get_joint_fraction, see.get_fill),
        *(geometry.denormalize_xy, geometry.get_corner_pos, geometry.get_side_pos),
        *(geometry.get_corner_name, geometry.get_side_name),
        *(motion.pick, motion.lift, motion.put_first_on_second, motion.place_at, motion.is_holding),
        *(motion.set_joint, motion.reorient, pouring.pour, motion.release, motion.open_gripper, motion.close_gripper),
        *(motion.get_tool_pos, motion.move_to, motion.servo, motion.wait, motion.get_time, motion.do),
        *(speech.say, speech.ask),
    ]
    return Api(see, motion, speech, {function.__name__: function for function in functions})
