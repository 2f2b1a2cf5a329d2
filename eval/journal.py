"""What an evaluation has finished, safe on the disk while it runs: `episodes.jsonl` in its output folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from data.atomic import flush
from eval.goal_pictures import LANGUAGE, goal_file
from eval.policies import LEROBOT, LMP, REMOTE, PolicyChoice, choose_policy, language_model_files
from eval.protocol import EvaluationConfig
from eval.provenance import LEROBOT_PACKAGES, PACKAGES, file_hash, git_commit, package_versions
from eval.worker import PolicyDescription
from robot.errors import TongsError

if TYPE_CHECKING:
    from robot.remote.client import RemotePolicy
    from sim.episode import EpisodeResult

NAME = "episodes.jsonl"
FORMAT = 1
_DECISIVE = (
    *("tasks", "scenes", "split", "variant", "wording", "engine", "protocol"),
    *("execute", "sampling", "lmp", "image_size", "quality"),
)
"""Fields of an `EvaluationConfig` that decide the result."""
_NOT_KEPT = ("states", "goal_image")
"""Fields of an episode that only its film needs."""


class Journal:
    """An append-only file with a JSON object per line; a context, which holds the file for itself.

    The first line says what is evaluated: the protocol, the SHA-256 of the checkpoint's files, the versions of the
    packages. Each finished episode is a line with the commit that ran it, and the last line says that the report is
    written. A line is on the disk when the call that wrote it returns; one that was cut short, at the end of the file,
    is ignored. States are not kept: what is needed for a film is run again.

    Attributes:
        episodes: the finished ones, those of earlier runs without states.
        description: what the policy was found to be; None in a new journal.
        wall_s: duration of the rollouts in seconds, once the evaluation is finished.
        videos: films per task and outcome in the finished report.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        """Open the journal in `config.output`, and read it unless `config.resume` is False.

        Raises:
            TongsError: it is damaged, of another evaluation, or another process is writing it.
        """
        self._folder = Path(config.output)
        self._subject = _subject(config)
        self._commit = git_commit(Path(__file__).resolve().parents[1])
        self._commits: list[str | None] = []
        self._end = 0
        self.episodes: list[EpisodeResult] = []
        self.description: PolicyDescription | None = None
        self.wall_s = self.videos = None
        self._file = (self._folder / NAME).open("a+b", buffering=0)
        try:
            self._lock()
            if config.resume:
                self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def commit(self) -> str | None:
        """The commit that ran the episodes; several, joined by "and", if the code changed in between."""
        return " and ".join(dict.fromkeys(commit for commit in self._commits if commit)) or None

    def begin(self, description: PolicyDescription) -> None:
        """Start anew with the first line; what the file held is gone."""
        self._end = 0
        self._append({"format": FORMAT, "subject": self._subject, "policy": asdict(description)})
        flush(self._folder)
        self.description = description

    def add(self, episode: EpisodeResult) -> None:
        kept = {field.name: getattr(episode, field.name) for field in fields(episode) if field.name not in _NOT_KEPT}
        self._append({"episode": kept, "commit": self._commit})
        self.episodes.append(episode)
        self._commits.append(self._commit)

    def finish(self, wall_s: float, videos: int) -> None:
        """Everything is written: results, report and films."""
        self._append({"finished": {"wall_s": wall_s, "videos": videos}})

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, default=lambda scalar: scalar.item()).encode() + b"\n"
        try:
            self._file.truncate(self._end)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder / NAME))
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TongsError(f"another evaluation is writing into {self._folder}; choose another output") from None
        except OSError:
            return  # a file system without locks

    def _read(self) -> None:
        self._file.seek(0)
        *lines, _ = self._file.readall().split(b"\n")  # what follows the last line's end was cut short
        records = [self._parse(line, number, number == len(lines)) for number, line in enumerate(lines, 1)]
        if records and records[-1] is None:
            lines.pop()
            records.pop()
        if not records:
            return
        self._end = sum(len(line) + 1 for line in lines)
        try:
            self._take(records)
        except (AttributeError, KeyError, TypeError) as error:
            raise self._damaged(f"it is damaged ({error})") from error

    def _parse(self, line: bytes, number: int, last: bool) -> Any:
        """The record in a line; None for a damaged one at the very end."""
        try:
            return json.loads(line)
        except ValueError as error:
            if last:
                return None
            raise self._damaged(f"line {number} is damaged") from error

    def _take(self, records: list[Any]) -> None:
        from sim.episode import EpisodeResult

        header, *entries = records
        if header["format"] != FORMAT:
            raise self._damaged(f"it has format {header['format']}, this program writes {FORMAT}")
        self._require_same(header["subject"])
        self.description = PolicyDescription(**header["policy"])
        for entry in entries:
            if "finished" in entry:
                self.wall_s, self.videos = entry["finished"]["wall_s"], entry["finished"]["videos"]
                continue
            kept = entry["episode"]
            lists = {name: tuple(kept.get(name, ())) for name in ("latencies", "subgoals")}
            self.episodes.append(EpisodeResult(**kept | lists, states=np.empty((0, 0))))
            self._commits.append(entry["commit"])

    def _require_same(self, other: dict[str, Any]) -> None:
        names = dict.fromkeys([*other, *self._subject])
        differing = [
            f"{name} was {_shown(other.get(name))} and is {_shown(self._subject.get(name))}"
            for name in names
            if other.get(name) != self._subject.get(name)
        ]
        if differing:
            raise TongsError(
                f"{self._folder} holds another evaluation: {', '.join(differing)}; "
                "choose another output, or start anew with resume=false"
            )

    def _damaged(self, why: str) -> TongsError:
        return TongsError(f"cannot continue from {self._folder / NAME}: {why}; start anew with resume=false")


def _subject(config: EvaluationConfig) -> dict[str, Any]:
    """Everything that decides the result of an evaluation, as JSON gives it back."""
    choice = choose_policy(config.policy)
    theirs = config.policy.startswith(LEROBOT)
    model = language_model_files(config.lmp) if config.policy == LMP else {}
    packages = (*PACKAGES, *LEROBOT_PACKAGES) if theirs else PACKAGES
    subject = {
        "policy": "a checkpoint" if choice.folder is not None else config.policy,
        **{f"checkpoint's {name}": digest for name, digest in choice.hashes.items()},
        **{f"language model's {name}": file_hash(path) for name, path in model.items()},
        **(_served(choice) if choice.name.startswith(REMOTE) else {}),
        **({"lerobot": config.lerobot} if theirs else {}),
        **{name: getattr(config, name) for name in _DECISIVE},
        **config.real_time_words,
        **({} if config.goal == LANGUAGE else {"goal": config.goal}),
        **({"corrector": dict(config.corrector)} if config.corrector else {}),
        **({} if (file := goal_file(config.goal)) is None else {"goal picture": file_hash(file)}),
        **{f"version of {name}": version for name, version in package_versions(packages).items()},
    }
    return json.loads(json.dumps(subject))


def _served(choice: PolicyChoice) -> dict[str, Any]:
    """What decides the answers of a policy server, asked there; its address does not."""
    policy = cast("RemotePolicy", choice.load())
    policy.close()
    hashes = {f"checkpoint's {name}": digest for name, digest in policy.checkpoint.items()}
    return {"policy": f"{policy.welcome.policy} on a server", "server's sampling": policy.sampling, **hashes}


def _shown(value: object) -> str:
    """A value in a sentence; of a long one, such as a hash, the beginning."""
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
