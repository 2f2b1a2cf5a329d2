"""What pressing a key does, on the page and in a terminal alike. Keys that are held down to drive are in `drive`."""

from __future__ import annotations

from robot.control.status import State
from robot.session.drive import GRIPPER_KEY
from robot.session.session import Session

MOTION_KEYS = {
    "arrowup": "move arm forward",
    "arrowdown": "move arm backward",
    "arrowleft": "move arm left",
    "arrowright": "move arm right",
    "pageup": "move arm up",
    "pagedown": "move arm down",
}
"""Motions that a key says; keys by their names in a browser, in lower case."""
MOTION_LABELS = ("↑", "↓", "←", "→", "PgUp", "PgDn")


def press(session: Session, client: str, key: str) -> str:
    """Do what a key stands for; one that stands for nothing does nothing.

    Returns:
        What there is to tell, "" for nothing.

    Raises:
        TongsError: it cannot be done now.
    """
    state = session.loop_state
    if key == " " and state in (State.RUNNING, State.OPERATOR):
        session.pause(client)
    elif key == " ":
        session.start(client)
    elif key == "t" and state == State.OPERATOR:
        session.hand_back(client)
    elif key == "t":
        session.take_over(client)
    elif key in ("y", "n") and session.view().episode:
        return judge(session, client, key == "y")
    elif key in MOTION_KEYS:
        return session.correct(client, MOTION_KEYS[key])
    elif key == GRIPPER_KEY and state == State.OPERATOR:
        toggle_gripper(session, client)
    elif key.isdigit() and 0 < int(key) <= len(session.suggestions()):
        return session.correct(client, session.suggestions()[int(key) - 1])
    return ""


def judge(session: Session, client: str, success: bool) -> str:
    """End the episode with a verdict, and tell where it is once it is saved."""
    where = session.finish(client, success).result()
    return f"Saved: {where}" if where else "Not recorded."


def toggle_gripper(session: Session, client: str) -> None:
    """Close what is more open than closed, open the rest."""
    session.drive(client, [0.0] * 6, 0.0 if session.opening > 0.5 else 1.0)
