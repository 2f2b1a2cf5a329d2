"""What can go wrong with a program, as the program and the model that wrote it are told."""

from __future__ import annotations


class ProgramError(Exception):
    """A program that cannot be run, or failed; the message goes back to the model that wrote it."""


class RequestError(Exception):
    """What a program asked for and cannot have: a thing that is not there, a place out of reach, an empty grasp.

    Raised by functions of the API; the message says what was asked for, why it cannot be, and what could be asked."""


class PerceptionError(RequestError):
    """Something is not in the scene, or cannot be seen of it."""


class UnreachableError(RequestError):
    """The arm cannot get there."""


class GraspError(RequestError):
    """The fingers closed on nothing, or what they held is gone."""


class Interrupted(Exception):  # noqa: N818 - not a mistake of anybody
    """The command was withdrawn: another one came, or the episode is over."""
