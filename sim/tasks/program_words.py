"""How longer tasks are told: one sentence for all of their sub-goals, in order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim.language import Wording, centimetre_phrases, choose, percent_phrases
from sim.reference import call
from sim.tasks.base import Subgoal
from sim.tasks.put_in_drawer import PutInDrawer


def program_sentence(rng: np.random.Generator, subgoals: tuple[Subgoal, ...], wording: Wording) -> str:
    """A random sentence for the sub-goals of one of the programs.

    Every number in it is recoverable; "it" is the thing while that is lifted, and the drawer while that is closed.
    """
    steps = {subgoal.task.name: subgoal for subgoal in subgoals}
    slots: dict[str, str | list[str] | tuple[str, ...]] = {}
    if (lifted := steps.get("pickup_object")) is not None:
        slots["height"] = centimetre_phrases(round(lifted.value * 100), wording)
    if (opened := steps.get("open_drawer")) is not None:
        slots |= {"drawer": _drawer(opened.body), "percent": percent_phrases(round(opened.value * 100), wording)}
    if (put := steps.get("put_in_drawer")) is not None:
        assert isinstance(put.task, PutInDrawer)
        slots |= {"thing": call(rng, put.words, wording), "drawer": _drawer(put.task.drawer)}
    if (closed := steps.get("close_drawer")) is not None:
        what = "it" if put is not None else f"the {_drawer(closed.body).replace('drawer', 'one')}"
        slots["close"] = _closing_phrases(what, round(closed.value * 100), wording)
    return choose(rng, _TEMPLATES[tuple(steps)][wording], **slots)


def _drawer(body: str) -> str:
    return body.replace("_", " ")


def _closing_phrases(what: str, percent: int, wording: Wording) -> list[str]:
    """Ways to say that `what` ("it", "the left one") shall be closed until only `percent` are left open."""
    if percent == 0:
        fully = {
            "seen": ("close {what}", "close {what} fully", "push {what} all the way in"),
            "unseen": ("shut {what} entirely", "push {what} fully shut"),
        }
        return [template.format(what=what) for template in fully[wording]]
    partly = {
        "seen": ("close {what} until it is {percent} open", "push {what} in until it is {percent} open"),
        "unseen": ("shut {what} so that it stays {percent} open",),
    }
    return [
        template.format(what=what, percent=phrase)
        for template in partly[wording]
        for phrase in percent_phrases(percent, wording)
    ]


_TEMPLATES: Mapping[tuple[str, ...], Mapping[Wording, tuple[str, ...]]] = {
    ("put_in_drawer", "close_drawer"): {
        "seen": (
            "put the {thing} in the open {drawer} and {close}",
            "place the {thing} in the open {drawer}, then {close}",
            "first put the {thing} into the open {drawer}, then {close}",
            "drop the {thing} into the open {drawer} and then {close}",
            "please put the {thing} in the {drawer} and {close}",
        ),
        "unseen": (
            "stow the {thing} in the open {drawer} and after that {close}",
            "could you lay the {thing} in the {drawer} and {close}?",
        ),
    },
    ("open_drawer", "put_in_drawer"): {
        "seen": (
            "open the {drawer} {percent}, then put the {thing} in it",
            "open the {drawer} {percent} and put the {thing} in it",
            "first open the {drawer} {percent}, then put the {thing} into it",
            "pull the {drawer} {percent} open and place the {thing} inside",
            "please open the {drawer} {percent} and put the {thing} in",
        ),
        "unseen": (
            "draw the {drawer} {percent} out and after that lay the {thing} in it",
            "could you get the {drawer} {percent} open and stow the {thing} inside?",
        ),
    },
    ("open_drawer", "put_in_drawer", "close_drawer"): {
        "seen": (
            "open the {drawer} {percent}, put the {thing} in it and {close}",
            "open the {drawer} {percent}, then put the {thing} in it, then {close}",
            "first open the {drawer} {percent}, then put the {thing} inside and finally {close}",
            "pull the {drawer} {percent} open, place the {thing} inside and {close}",
            "please open the {drawer} {percent}, put the {thing} in it and {close}",
        ),
        "unseen": (
            "draw the {drawer} {percent} out, lay the {thing} in it and after that {close}",
            "could you get the {drawer} {percent} open, stow the {thing} inside and {close}?",
        ),
    },
    ("open_drawer", "close_drawer"): {
        "seen": (
            "open the {drawer} {percent} and {close}",
            "open the {drawer} {percent}, then {close}",
            "first open the {drawer} {percent}, then {close}",
            "pull the {drawer} {percent} open and {close}",
            "please open the {drawer} {percent} and then {close}",
        ),
        "unseen": (
            "draw the {drawer} {percent} out and after that {close}",
            "could you get the {drawer} {percent} open and then {close}?",
        ),
    },
    ("pickup_object", "put_in_drawer"): {
        "seen": (
            "lift the {thing} {height}, then put it in the open {drawer}",
            "lift the {thing} by {height} and put it in the open {drawer}",
            "first raise the {thing} {height} above the table, then put it into the open {drawer}",
            "pick up the {thing}, lift it {height} and place it in the open {drawer}",
            "please raise the {thing} {height} and then put it in the {drawer}",
        ),
        "unseen": (
            "hoist the {thing} {height} off the table and after that lay it in the open {drawer}",
            "could you hold the {thing} up {height} higher and then stow it in the {drawer}?",
        ),
    },
}
