"""Language motions such as "move arm left and close gripper": one table of words for people, labels and policies.

The table says which change of the arm has which words and from which size on it is named (RT-H, arXiv 2403.01823,
section 4.1). The labeler names what an arm did by it, a person or a policy says by it what the arm shall do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.errors import TongsError
from robot.skills import POSE_STATE

TURNS = ("rx", "ry", "rz")
"""Entries of a change that are no entries of the state: the turn of the tool about the base frame's axes, rad."""
GRIPPER = "gripper_opening"
_VELOCITY = ("x", "y", "z", *TURNS)
_AND = " and "
STOP_WORDS = ("stop", "halt", "freeze", "wait")
"""What pauses the robot, whatever it is doing."""
RELEASE_WORDS = ("go on", "continue", "release")
"""What gives the choice of motions back to the policy."""
_FILLERS = {"the", "arm", "hand", "please", "slightly", "a", "bit", "little"}
_SYNONYMS = {"back": "backward", "backwards": "backward", "forwards": "forward", "turn": "rotate"}
_CLOSE = 0.8
"""Likeness from which a phrase is taken for a motion that was mistyped."""


def _plain(text: str) -> str:
    """Lower-cased words without fillers and with one synonym for all."""
    words = text.lower().replace(",", _AND).strip(" .!").split()
    return " ".join(_SYNONYMS.get(word, word) for word in words if word not in _FILLERS)


@dataclass(frozen=True)
class Axis:
    """One way in which the arm changes, and its words.

    Attributes:
        entry: of the state, such as "x"; or one of `TURNS`.
        positive, negative: what growing and shrinking are called.
        threshold: the smallest change over the horizon that is named, in the entry's unit.
    """

    entry: str
    positive: str
    negative: str
    threshold: float

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise TongsError(f"the threshold of motion axis {self.entry} must be above 0, got {self.threshold}")


@dataclass(frozen=True)
class MotionTable:
    """The vocabulary of an arm, and how its movement becomes words.

    Attributes:
        axes: the words; where two changes are equally large the one named first here is said first.
        horizon: s over which a change is measured.
        most: most changes that one motion names, the largest ones; size counts in multiples of the threshold.
        idle: what is said where no change reaches its threshold.
    """

    axes: tuple[Axis, ...]
    horizon: float = 0.4
    most: int = 3
    idle: str = "hold still"

    def __post_init__(self) -> None:
        if not self.horizon > 0 or self.most < 1:
            raise TongsError(f"a motion table needs horizon > 0 and most >= 1, got {self.horizon} and {self.most}")
        counts = Counter(_plain(phrase) for phrase in self.phrases)
        if twice := [phrase for phrase in self.phrases if counts[_plain(phrase)] > 1]:
            raise TongsError(f"two motions of the table have the words {twice[0]!r}")

    @property
    def phrases(self) -> tuple[str, ...]:
        """Everything that can be said of one change, and the idle phrase."""
        return (*(phrase for axis in self.axes for phrase in (axis.positive, axis.negative)), self.idle)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> MotionTable:
        """The inverse of `to_json`. Raises TongsError if the fields are not those of a table."""
        try:
            axes = tuple(Axis(**axis) for axis in fields["axes"])
            return cls(axes, **{name: value for name, value in fields.items() if name != "axes"})
        except (KeyError, TypeError) as error:
            raise TongsError(f"this is no table of motions: {error}") from error


TABLE = MotionTable(
    (
        Axis("x", "move arm forward", "move arm backward", 0.01),
        Axis("y", "move arm left", "move arm right", 0.01),
        Axis("z", "move arm up", "move arm down", 0.01),
        Axis("rx", "tilt arm right", "tilt arm left", 0.06),
        Axis("ry", "tilt arm forward", "tilt arm backward", 0.06),
        Axis("rz", "rotate arm left", "rotate arm right", 0.06),
        Axis(GRIPPER, "open gripper", "close gripper", 0.15),
    )
)
"""Of an arm on a table: base frame x forward, y left, z up; m, rad, and the gripper's opening from 0 to 1."""


# --- from movement to words


def label_motions(
    states: NDArray[np.floating], names: Sequence[str], rate: float, table: MotionTable = TABLE
) -> list[str]:
    """The motion at each of the N moments of an episode, without any human label.

    What is named is the change from a moment to the one `table.horizon` s later, or to the last one. It needs no
    actions, so it is the same for any controller.

    Args:
        states: proprioception (N, D).
        names: of its D entries.
        rate: moments per s.
        table: the words.

    Raises:
        TongsError: the state lacks an entry of the table.
    """
    ahead = max(round(table.horizon * rate), 1)
    later = np.minimum(np.arange(len(states)) + ahead, len(states) - 1)
    return [describe(change, table) for change in changes(states, states[later], names, table)]


def changes(
    before: NDArray[np.floating], after: NDArray[np.floating], names: Sequence[str], table: MotionTable = TABLE
) -> NDArray[np.float64]:
    """How states (N, D) differ from later ones, by the axes of a table: (N, K)."""
    wanted = [axis.entry for axis in table.axes]
    needed = [entry for entry in wanted if entry not in TURNS]
    turns = any(entry in TURNS for entry in wanted)
    if absent := [name for name in (*needed, *(POSE_STATE[3:] if turns else ())) if name not in names]:
        raise TongsError(f"motions need the state {', '.join(absent)}; there is {', '.join(names)}")
    column = {name: list(names).index(name) for name in (*needed, *(POSE_STATE[3:] if turns else ()))}
    turned = np.zeros((len(before), 3))
    if turns:
        first, last = (_rotations(states, [column[name] for name in POSE_STATE[3:]]) for states in (before, after))
        turned = (last * first.inv()).as_rotvec()
    found = np.zeros((len(before), len(wanted)))
    for number, entry in enumerate(wanted):
        if entry in TURNS:
            found[:, number] = turned[:, TURNS.index(entry)]
        else:
            found[:, number] = np.subtract(after[:, column[entry]], before[:, column[entry]], dtype=np.float64)
    return found


def _rotations(states: NDArray[np.floating], columns: Sequence[int]) -> Rotation:
    """From the first two columns of rotation matrices, which need not be quite orthogonal."""
    values = states[:, columns].astype(np.float64)
    first, second = values[:, :3], values[:, 3:]
    return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=2))


def describe(change: NDArray[np.floating], table: MotionTable = TABLE) -> str:
    """The words for a change (K,) along the axes of the table, the largest first."""
    sizes = [abs(float(value)) / axis.threshold for value, axis in zip(change, table.axes, strict=True)]
    order = sorted((i for i, size in enumerate(sizes) if size >= 1.0), key=lambda i: -sizes[i])
    said = [table.axes[i].positive if change[i] > 0 else table.axes[i].negative for i in order[: table.most]]
    return _AND.join(said) or table.idle


def clauses(motion: str) -> tuple[str, ...]:
    """The single changes that a motion names, the largest first."""
    return tuple(motion.split(_AND))


@dataclass(frozen=True)
class Vocabulary:
    """Which motions occur how often; the most frequent first.

    Attributes:
        counts: moments per motion.
        depth: moments per number of changes that their motion names.
    """

    counts: Mapping[str, int]
    depth: Mapping[int, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def sentences(self, shown: int = 15) -> list[str]:
        """A report to print: how many there are, how long they are, and the most frequent."""
        if not self.counts:
            return ["no motions"]
        lengths = ", ".join(f"{100 * of / self.total:.1f} % {names}" for names, of in sorted(self.depth.items()))
        lines = [f"{len(self.counts)} motions at {self.total} moments; changes that they name: {lengths}"]
        return lines + [f"{100 * of / self.total:6.2f} %  {motion}" for motion, of in list(self.counts.items())[:shown]]


def vocabulary(motions: Iterable[str], table: MotionTable = TABLE) -> Vocabulary:
    """The report of labels."""
    counts = Counter(motions)
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    depth: Counter[int] = Counter()
    for motion, of in ordered.items():
        depth[0 if motion == table.idle else len(clauses(motion))] += of
    return Vocabulary(ordered, dict(depth))


# --- from words to movement


@dataclass(frozen=True)
class Motion:
    """A velocity (6,) in shares of the teleoperation speed (-1 to 1), and a gripper opening or None to leave it."""

    text: str
    velocity: tuple[float, ...]
    opening: float | None = None


def parse_motion(text: str, table: MotionTable = TABLE) -> Motion | None:
    """The motion that a text asks for, in the table's own words; None if it is no motion but an instruction.

    Fillers ("the arm", "please"), a few synonyms, and verbs said only once ("move up and left") are understood.

    Raises:
        TongsError: it is nearly a motion; the nearest known ones are named.
    """
    known = {_plain(phrase): phrase for phrase in table.phrases}
    verbs = {phrase.split()[0] for phrase in known}
    moving = {_plain(axis.positive).split()[0] for axis in table.axes if axis.entry != GRIPPER}
    parts, verb = [], ""
    for part in _plain(text).split(_AND):
        words = [word for word in part.split() if word != "and"]
        if words and words[0] in verbs:
            verb = words[0]
        elif verb and words:
            words = [verb, *words]
        if words:
            parts.append(" ".join(words))
    if not parts:
        return None
    for part in parts:
        if part in known:
            continue
        nearest = get_close_matches(part, known, 3, _CLOSE)
        if not nearest and not (len(part.split()) == 2 and part.split()[0] in moving):
            return None
        nearest = nearest or [phrase for phrase in known if phrase.split()[0] == part.split()[0]]
        raise TongsError(f"unknown motion {part!r}; the nearest known are: {', '.join(known[one] for one in nearest)}")
    velocity, opening = [0.0] * len(_VELOCITY), None
    said = [known[part] for part in parts]
    for axis in table.axes:
        for phrase, sign in ((axis.positive, 1.0), (axis.negative, -1.0)):
            if phrase in said and axis.entry == GRIPPER:
                opening = max(sign, 0.0)
            elif phrase in said and axis.entry in _VELOCITY:
                velocity[_VELOCITY.index(axis.entry)] = sign
    return Motion(_AND.join(said), tuple(velocity), opening)


def require_motion(text: str, table: MotionTable = TABLE) -> str:
    """A motion in the table's own words.

    Raises:
        TongsError: it is none; the nearest known ones are named.
    """
    if not text.strip():
        raise TongsError(f"the motion is empty; say one such as {table.phrases[0]!r}")
    motion = parse_motion(text, table)
    if motion is None:
        nearest = get_close_matches(text.lower(), table.phrases, 3, 0.0)
        raise TongsError(f"unknown motion {text!r}; the nearest known are: {', '.join(nearest)}")
    return motion.text
