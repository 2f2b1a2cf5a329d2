"""Settings of RT-H: backbone, variant, prompts, words, and what is asked how often in training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.vla.config import DIFFUSION, VlaConfig
from robot.errors import TongsError, unknown
from robot.motions import TABLE, MotionTable

HIERARCHY, JOINT, FLAT = "hierarchy", "joint", "flat"
WORDS, IDS, CLUSTERS = "words", "ids", "clusters"
MOTION, ACTION = "motion", "action"
QUERIES = (FLAT, MOTION, ACTION, JOINT)
"""What the network may be asked: an action, a motion, an action given a motion, a motion and then an action."""


@dataclass(frozen=True)
class Mixture:
    """How often each query is trained, as shares that are scaled to add up to 1 (RT-H, section 3.2: 50, 25, 25 %).

    Attributes:
        flat: what the backbone did before it knew of motions: the action for an instruction alone. The paper mixes in
            the data that its backbone was trained on; a small one has learned from nothing else.
        motion: the motion query.
        action: the action query.
    """

    flat: float = 0.5
    motion: float = 0.25
    action: float = 0.25

    def __post_init__(self) -> None:
        if min(self.flat, self.motion, self.action) < 0 or self.flat + self.motion + self.action <= 0:
            raise TongsError(
                f"shares of the queries must be at least 0 and not all 0, got {self.flat}, {self.motion}, {self.action}"
            )


@dataclass(frozen=True)
class RthSampling:
    """May change at run time without retraining.

    Attributes:
        asynchronous: use the motion that was predicted at the step before, while the next one is predicted in the same
            pass; only of a policy that was trained for it (`RthConfig.ahead` above 0).
    """

    asynchronous: bool = True


@dataclass(frozen=True)
class RthConfig:
    """Everything that shapes an RT-H policy.

    Attributes:
        vla: the backbone; see `VlaConfig`. Its prompt is taken as it is, since whole queries are put in.
        variant: "hierarchy": two queries, motion and then action; "joint": one query that is answered by both; "flat":
            one query for the action (RT-2).
        labels: what a motion is called in queries and answers: "words", "ids" (RT-H-OneHot: the number of the motion),
            or "clusters" (RT-H-Cluster: the number of a cluster of actions, without any motion).
        motion_prompt, action_prompt, joint_prompt, flat_prompt: the queries, with {instruction} and, in the action
            query, {motion} where those go. Leaving one out is the ablation of it.
        ahead: frames by which the predicted motion lies ahead: the control steps between two queries. 0 trains for
            synchronous inference.
        mixture: see there.
        motion_weight: of a motion's loss, beside an action's 1.
        motion_tokens: most tokens of a motion and its end.
        clusters: how many there are.
        table: by which the motions are meant; a checkpoint goes with its own.
        vocabulary: the motions that can be predicted, the most frequent first; follows from the data.
        centres: of the clusters, in scaled actions; follows from the data.
        sampling: the default way to act.
    """

    vla: VlaConfig
    variant: Literal["hierarchy", "joint", "flat"] = HIERARCHY
    labels: Literal["words", "ids", "clusters"] = WORDS
    motion_prompt: str = "Q: What motion should the robot do to {instruction}? A:"
    action_prompt: str = "Q: What action should the robot do to {instruction} with motion {motion}? A:"
    joint_prompt: str = "Q: What motion and action should the robot do to {instruction}? A:"
    flat_prompt: str = "Q: What action should the robot do to {instruction}? A:"
    ahead: int = 4
    mixture: Mixture = field(default_factory=Mixture)
    motion_weight: float = 1.0
    motion_tokens: int = 20
    clusters: int = 64
    table: MotionTable = TABLE
    vocabulary: tuple[str, ...] = ()
    centres: tuple[tuple[float, ...], ...] = ()
    sampling: RthSampling = field(default_factory=RthSampling)

    def __post_init__(self) -> None:
        object.__setattr__(self, "centres", tuple(tuple(centre) for centre in self.centres))
        for name, known in (("variant", (HIERARCHY, JOINT, FLAT)), ("labels", (WORDS, IDS, CLUSTERS))):
            if getattr(self, name) not in known:
                raise unknown(f"{name} of rth", getattr(self, name), known)
        if self.vla.prediction == DIFFUSION or self.vla.action_tokens != "bins" or self.vla.film:
            raise TongsError(
                "rth takes a backbone with prediction autoregressive, parallel or l1, action_tokens=bins and film=false"
            )
        if self.vla.prompt != "{instruction}":
            raise TongsError(
                f"the backbone of rth is given whole queries, so its prompt must be {{instruction}}, "
                f"got {self.vla.prompt!r}"
            )
        if "{motion}" not in self.action_prompt and "{instruction}" not in self.action_prompt:
            raise TongsError(f"the action query must hold {{instruction}} or {{motion}}, got {self.action_prompt!r}")
        for name in ("motion_prompt", "joint_prompt", "flat_prompt"):
            if "{motion}" in getattr(self, name):
                raise TongsError(f"{name} cannot hold {{motion}}, which is not known yet, got {getattr(self, name)!r}")
        if self.ahead < 0 or self.motion_tokens < 2 or self.clusters < 1 or self.motion_weight < 0:
            raise TongsError(
                f"rth needs ahead >= 0, motion_tokens >= 2, clusters >= 1 and motion_weight >= 0, got {self.ahead}, "
                f"{self.motion_tokens}, {self.clusters} and {self.motion_weight}"
            )

    @property
    def says_motions(self) -> bool:
        """Whether the network is ever asked for a motion."""
        return self.variant != FLAT

    @property
    def reads_motions(self) -> bool:
        """Whether it learns the motions of the data."""
        return self.says_motions and self.labels != CLUSTERS

    def prompt(self, query: str) -> str:
        """The template of one of the `QUERIES`."""
        return {
            FLAT: self.flat_prompt,
            MOTION: self.motion_prompt,
            ACTION: self.action_prompt,
            JOINT: self.joint_prompt,
        }[query]

    def shares(self, stage: str) -> tuple[float, ...]:
        """How often each of the `QUERIES` is trained in a stage: everything in "control", only the motion query in
        "corrections" (RT-H, section 3.3), motion and action query in "interventions" (InterveneAction)."""
        if not self.says_motions:
            return (1.0, 0.0, 0.0, 0.0)
        mixture = self.mixture
        if stage != "control":
            action = float(stage == "interventions")
            mixture = Mixture(0.0, 1.0, action)
        both = mixture.motion + mixture.action
        whole = mixture.flat + both
        if self.variant == JOINT:
            return (mixture.flat / whole, 0.0, 0.0, both / whole)
        return (mixture.flat / whole, mixture.motion / whole, mixture.action / whole, 0.0)
