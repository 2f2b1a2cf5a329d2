"""RT-H: one network that is asked for a language motion, and then for the action given the motion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies.base import Batch, Episode, PolicyModule, TrainingData, load_policy
from policies.configuration import configuration
from policies.normalisation import Statistics
from policies.randomness import Randomness, draw
from policies.rth.answers import Answers, Query
from policies.rth.config import ACTION, CLUSTERS, FLAT, HIERARCHY, JOINT, MOTION, QUERIES, RthConfig, RthSampling
from policies.rth.labels import Labels, cluster_centres
from policies.vla.model import weighted_mean
from policies.vla.policy import Vla
from robot.errors import TongsError
from robot.interface import ActionChunk, Observation, PolicySpec
from robot.motions import MotionTable, parse_motion

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNKS = 20000
"""Action chunks that clusters are made of."""
_LATE = 2.0
"""A motion that was predicted for a moment is forgotten when so many times the way to it have gone by."""
_HELD = "gripper_command"
"""State entry that says what the gripper was told last."""


@dataclass
class RthEpisode(Episode):
    """What is kept of one episode besides: the label that was predicted for the next step, when and for which
    instruction, and the gripper's last command."""

    ahead: str = ""
    asked_at: float = 0.0
    asked_for: str = ""
    gripper: float | None = None


@dataclass
class _Step:
    """What one row of a batch comes to: the label in force and who chose it, the one that was predicted for the next
    step, and scaled actions (H, A), None if there are none to follow."""

    label: str = ""
    source: Literal["human", "model"] = "model"
    ahead: str = ""
    actions: Tensor | None = None


class Rth(PolicyModule):
    """RT-H (arXiv 2403.01823) on a VLA of any size: pi(a, z | o, l) = pi_h(z | o, l) pi_l(a | o, l, z).

    Both queries are answered by the same weights. Asynchronously, the action query is given the motion that was
    predicted at the step before, and the next motion is predicted in the same pass (section 3.2). A motion that
    somebody chooses (`Observation.motion`) takes the place of the predicted one.

    What is said but is no motion, or not H * A numbers in range, moves nothing: the chunk holds, and `malformed`
    counts.

    Args:
        config: see `RthConfig`.
        spec: as for `Vla`.
        statistics: as for `Vla`.

    Attributes:
        malformed: answers that were no motion ("motion") or no chunk of actions ("action").
        stage: of training, which `enter` changes.
    """

    family: ClassVar[str] = "rth"
    config_class: ClassVar[type] = RthConfig
    config: RthConfig

    def __init__(self, config: RthConfig, spec: PolicySpec, statistics: Statistics) -> None:
        if config.variant == HIERARCHY and config.labels != CLUSTERS:
            spec = replace(spec, goals=("language", "motion"))
        if config.labels == CLUSTERS and config.says_motions and spec.horizon <= config.ahead:
            raise TongsError(f"clusters need a horizon above ahead, got {spec.horizon} and {config.ahead}")
        vla = Vla(config.vla, spec, statistics)
        super().__init__(config, spec, vla.statistics)
        self.vla = vla
        if config.says_motions:  # a backbone with a continuous head says nothing in words
            vla.network.language_model.get_output_embeddings().weight.requires_grad_(True)
        self.answers = Answers(vla.network, config.motion_tokens if config.says_motions else 0, config.variant == JOINT)
        self.malformed: Counter[str] = Counter()
        self.stage = "control"
        self._know()

    @classmethod
    def new(cls, settings: Mapping[str, Any], spec: PolicySpec, data: TrainingData) -> Self:
        """A policy whose words, motions and clusters follow from the data; `backbone` among the settings is the folder
        of a trained VLA to begin with.

        Raises:
            TongsError: the data has no motions, or the backbone does not fit the spec.
        """
        values = dict(settings)
        backbone, of_vla = values.pop("backbone", None), dict(values.pop("vla"))
        base = None if backbone is None else _backbone(backbone, spec)
        if base is None:
            texts = _texts(values, data)
            made = Vla.new(of_vla | {"prompt": "{instruction}"}, spec, replace(data, instructions=texts))
        else:
            made = base
        values["vla"] = replace(made.config, prompt="{instruction}")
        config = configuration(RthConfig, values)
        if config.reads_motions:
            if not data.motions:
                raise TongsError("no dataset says which motions its arm makes; `tongs data label` adds them")
            config = replace(config, vocabulary=tuple(data.motions), table=data.motion_table or config.table)
        elif config.says_motions:
            chunks = made.action_bounds.normalise(torch.from_numpy(data.chunks(_CHUNKS)))
            first = chunks[:, : spec.horizon - config.ahead] if spec.horizon > config.ahead else chunks
            config = replace(config, centres=cluster_centres(first.numpy(), config.clusters))
        policy = cls(config, spec, made.statistics)
        if base is not None:
            policy.vla.load_state_dict(base.state_dict())
        return policy

    @classmethod
    def motion_ahead(cls, settings: Mapping[str, Any]) -> int:
        """As configured where there are two queries; otherwise the motion of the moment."""
        return int(settings.get("ahead", RthConfig.ahead)) if settings.get("variant", HIERARCHY) == HIERARCHY else 0

    def hear(self, motions: Sequence[str], table: MotionTable | None) -> None:
        """Learn to predict motions that were not in its data, such as those of a person.

        Raises:
            TongsError: they are meant by another table of words than the policy's own.
        """
        if not self.config.reads_motions:
            return
        own = self.config.table
        if table is not None and table != own:
            raise TongsError("the data is labelled by another table of motions than the policy; label it by the same")
        for motion in motions:
            said = parse_motion(motion, own)
            if said is None or said.text != motion:
                raise TongsError(f"motion {motion!r} of the data is none of the policy's table")
        more = [motion for motion in motions if motion not in set(self.config.vocabulary)]
        self.config = replace(self.config, vocabulary=(*self.config.vocabulary, *more))
        self._know()

    def _know(self) -> None:
        self.labels = Labels(self.config)
        if self.config.says_motions:
            self.answers.prepare(self.labels.known)

    @property
    def sampling(self) -> RthSampling:
        """How it acts; assign another `RthSampling` to change it, without retraining."""
        return self.config.sampling

    @sampling.setter
    def sampling(self, sampling: RthSampling) -> None:
        self.config = replace(self.config, sampling=sampling)

    @property
    def heavy_parts(self) -> list[nn.Module]:
        return self.vla.heavy_parts

    @property
    def stages(self) -> tuple[str, ...]:
        return ("control", "corrections", "interventions")

    def enter(self, stage: str) -> None:
        """From now on `loss` asks what that stage trains (see `RthConfig.shares`); a head that says only actions stays
        as it is where only motions are trained."""
        self.stage = stage
        head = self.vla.network.action_head
        if head is not None:
            asked = dict(zip(QUERIES, self.config.shares(stage), strict=True))
            head.requires_grad_(asked[FLAT] + asked[ACTION] + asked[JOINT] > 0)

    def prepare(self, instructions: Sequence[str]) -> None:
        """Tokenise every instruction with the longest motion, so that one that is too long is known before training."""
        longest = max(self.labels.known, key=len, default="") if self.config.says_motions else ""
        for instruction in instructions:
            for kind, share in zip(QUERIES, self.config.shares(self.stage), strict=True):
                if share:
                    self.vla.network.prompter.ids(self._text(kind, instruction, longest))

    # --- learning

    def loss(self, batch: Batch, generator: Randomness = None) -> dict[str, Tensor]:
        """Every row is asked one query, drawn by `RthConfig.shares`. Besides "loss" what a motion and what actions
        cost, the latter as in the backbone; and `PolicyModule.loss`."""
        actions = self.vla.action_bounds.normalise(batch["actions"])
        weight = (~batch["action_is_pad"]).float()
        now, ahead = self._data_labels(batch, actions)
        kinds = self._draw_kinds(len(actions), generator)
        queries, targets, known = [], [], []
        for row, kind in enumerate(kinds):
            queries.append(self._query(kind, row, batch["instruction"][row], now[row]))
            targets.append({MOTION: ahead[row], JOINT: now[row]}.get(kind, ""))
            known.append(bool({FLAT: "-", ACTION: now[row]}.get(kind, targets[-1])))
        image = self.vla.network.see(self.vla.pixels(batch["images"], generator), self.vla.scaled_state(batch["state"]))
        motion, action = self.answers.losses(image, queries, targets, actions, weight)
        rows = torch.tensor(known, dtype=torch.float32, device=image.device)
        if batch.get("weight") is not None:
            rows = rows * batch["weight"]
        result = {"loss": weighted_mean(self.config.motion_weight * motion + action, rows)}
        for name, cost, asked in (("motion", motion, (MOTION, JOINT)), ("action", action, (FLAT, ACTION, JOINT))):
            share = sum(of for kind, of in zip(QUERIES, self.config.shares(self.stage), strict=True) if kind in asked)
            if share:
                result[f"{name}_cost"] = (cost.detach() * rows).mean() / share
        return result

    def _draw_kinds(self, count: int, generator: Randomness) -> list[str]:
        shares = self.config.shares(self.stage)
        asked = [number for number, share in enumerate(shares) if share]
        ends = np.cumsum([shares[number] for number in asked])[:-1]
        places = draw(torch.rand, (count,), generator, self.device).cpu().numpy()
        return [QUERIES[asked[int(number)]] for number in np.searchsorted(ends, places, side="right")]

    def _data_labels(self, batch: Batch, actions: Tensor) -> tuple[list[str], list[str]]:
        """The label of each row's motion now, and of the one to be predicted; empty where there is none."""
        config = self.config
        if not config.says_motions:
            return [""] * len(actions), [""] * len(actions)
        if config.labels == CLUSTERS:
            length = actions.shape[1] - config.ahead
            return self.labels.clusters(actions[:, :length]), self.labels.clusters(actions[:, config.ahead :])
        return tuple([self.labels.of_data(motion) for motion in batch[key]] for key in ("motion", "motion_ahead"))  # type: ignore[return-value]

    # --- asking

    def _query(self, kind: str, row: int, instruction: str, label: str = "") -> Query:
        return Query(kind, row, self._text(kind, instruction, label))

    def _text(self, kind: str, instruction: str, label: str = "") -> str:
        return self.config.prompt(kind).replace("{motion}", label).replace("{instruction}", instruction)

    def look(self, batch: Batch) -> Tensor:
        """What is seen and felt, as every query of these observations reads it: (B, P, width)."""
        return self.vla.network.see(self.vla.pixels(batch["images"]), self.vla.scaled_state(batch["state"]))

    @torch.no_grad()
    def predict_motions(self, batch: Batch) -> list[str]:
        """The motions that the network says for observations; empty where it says none.

        Of a policy that was trained for asynchronous inference they lie `RthConfig.ahead` frames ahead.
        """
        asked = [self._query(MOTION, row, text) for row, text in enumerate(batch["instruction"])]
        return [self.labels.meaning(answer.label or "") for answer in self.answers.ask(self.look(batch), asked)]

    @torch.no_grad()
    def predict(self, batch: Batch, generator: Randomness) -> Tensor:
        """Actions (B, H, A) in physical units; see `PolicyModule.predict`.

        Where the batch has a "motion" that is not empty, it is the one carried out (RT-H with ground-truth motions);
        what was malformed holds.
        """
        given = batch.get("motion") or [""] * len(batch["instruction"])
        steps = [_Step(self.labels.of_person(motion) if motion else "") for motion in given]
        self._decide(steps, self.look(batch), batch["instruction"], [False] * len(steps))
        hold = self._hold(batch, [None] * len(steps))
        return torch.stack([hold[row] if step.actions is None else step.actions for row, step in enumerate(steps)])

    def _decide(
        self, steps: Sequence[_Step], image: Tensor, instructions: Sequence[str], ahead: Sequence[bool]
    ) -> None:
        """Fill in what is missing in the steps: the labels first, in a pass of its own; then the actions, in physical
        units, and for rows with `ahead` the next label, in one pass."""
        config = self.config
        kind = {HIERARCHY: ACTION, JOINT: JOINT, FLAT: FLAT}[config.variant]
        fresh = [row for row, step in enumerate(steps) if kind == ACTION and not step.label]
        if fresh:
            answers = self.answers.ask(image, [self._query(MOTION, row, instructions[row]) for row in fresh])
            for row, answer in zip(fresh, answers, strict=True):
                steps[row].label = steps[row].ahead = self._checked(answer.label)
        acting = [row for row, step in enumerate(steps) if kind != ACTION or step.label]
        queries = [self._query(kind, row, instructions[row], steps[row].label) for row in acting]
        next_rows = [row for row, wanted in enumerate(ahead) if wanted and row not in set(fresh)]
        queries += [self._query(MOTION, row, instructions[row]) for row in next_rows]
        if not queries:
            return
        answers = self.answers.ask(image, queries)
        for row, answer in zip(acting, answers[: len(acting)], strict=True):
            steps[row].actions = answer.actions
            if answer.actions is None:
                self.malformed["action"] += 1
            else:
                steps[row].actions = self.vla.action_bounds.physical(answer.actions)
            if kind == JOINT:
                steps[row].label = self._checked(answer.label)
                if not steps[row].label:
                    steps[row].actions = None
        for row, answer in zip(next_rows, answers[len(acting) :], strict=True):
            steps[row].ahead = self._checked(answer.label)

    def _checked(self, label: str | None) -> str:
        """A label that was said, empty if it means nothing."""
        if label is None or not self.labels.meaning(label):
            self.malformed["motion"] += 1
            return ""
        return label

    def _hold(self, batch: Batch, grippers: Sequence[float | None]) -> Tensor:
        """Chunks (B, H, A) that move nothing: no change, and the gripper as it was told last."""
        space, names = self.spec.action_space, self.spec.state_names
        hold = torch.zeros(len(grippers), self.spec.horizon, space.dimension, device=self.device)
        if "gripper" in space.names:
            for row, told in enumerate(grippers):
                seen = float(batch["state"][row, -1, names.index(_HELD)]) if _HELD in names else space.gripper_open
                hold[row, :, space.names.index("gripper")] = seen if told is None else told
        return hold

    # --- acting

    def begin(self, seed: int) -> RthEpisode:
        return RthEpisode(**vars(super().begin(seed)))

    def _act_episodes(
        self, episodes: Sequence[Episode], observations: Sequence[Observation], told: Mapping[str, Any]
    ) -> list[ActionChunk]:
        chunks = super()._act_episodes(episodes, observations, told)
        said = []
        for episode, observation, chunk, step in zip(episodes, observations, chunks, self._steps, strict=True):
            kept = cast(RthEpisode, episode)
            kept.ahead, kept.asked_at, kept.asked_for = step.ahead, observation.time, observation.instruction
            if "gripper" in self.spec.action_space.names:
                kept.gripper = float(chunk.actions[-1, self.spec.action_space.names.index("gripper")])
            motion = self.labels.meaning(step.label) if step.label else ""
            said.append(replace(chunk, motion=motion, motion_source=step.source))
        return said

    def _actions(
        self, episodes: Sequence[Episode], observations: Sequence[Observation], told: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        kept = [cast(RthEpisode, episode) for episode in episodes]
        steps = [self._begun(episode, seen) for episode, seen in zip(kept, observations, strict=True)]
        batch = self._batch(episodes, observations)
        self._decide(steps, self.look(batch), batch["instruction"], [self._asynchronous] * len(steps))
        hold = self._hold(batch, [episode.gripper for episode in kept])
        self._steps = steps
        actions = [hold[row] if step.actions is None else step.actions for row, step in enumerate(steps)]
        return np.stack([self.spec.action_space.clip(chunk.cpu().numpy()) for chunk in actions])

    @property
    def _asynchronous(self) -> bool:
        return self.config.variant == HIERARCHY and self.config.ahead > 0 and self.config.sampling.asynchronous

    def _begun(self, episode: RthEpisode, seen: Observation) -> _Step:
        """The step of an episode with the label that is known before the network is asked: that of a person, or the one
        that was predicted at the step before; none at the first step and after a pause or another instruction."""
        if seen.motion:
            if "motion" not in self.spec.goals:
                raise TongsError(f"this policy ({self.config.variant}, {self.config.labels}) takes no motions")
            return _Step(self.labels.of_person(seen.motion), "human")
        late = seen.time - episode.asked_at > _LATE * self.config.ahead / self.spec.action_space.rate
        if not self._asynchronous or late or seen.instruction != episode.asked_for:
            return _Step()
        return _Step(episode.ahead)


def _texts(settings: Mapping[str, Any], data: TrainingData) -> list[str]:
    """Every kind of query and answer that there will be, for the tokenizer to learn from."""
    motions = [*data.motions, "0123456789"]
    prompts = {
        name: settings.get(name, getattr(RthConfig, name)) for name in vars(RthConfig) if name.endswith("_prompt")
    }
    texts = [motion for motion in motions]
    for number, instruction in enumerate(data.instructions):
        motion = motions[number % len(motions)]
        texts += [text.replace("{motion}", motion).replace("{instruction}", instruction) for text in prompts.values()]
    return texts


def _backbone(folder: str, spec: PolicySpec) -> Vla:
    """A trained VLA to begin with."""
    base = load_policy(folder)
    if not isinstance(base, Vla):
        raise TongsError(f"the backbone of rth is a vla, and {folder} holds a {base.family} policy")
    if base.spec != spec:
        raise TongsError(f"the backbone {folder} is for {base.spec}, and this policy for {spec}")
    return base
