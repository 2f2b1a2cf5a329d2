"""A linter for recorded episodes: what in a dataset would make a policy learn the wrong thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from data.lint import motion, numbers, pictures
from data.lint.recording import Finding, Recording
from data.listening import told_in_dataset, why_words_are_idle
from data.reader import Dataset

__all__ = ["Finding", "check"]

CHECKS = (
    numbers.not_finite,
    numbers.out_of_range,
    numbers.constant,
    numbers.clock,
    numbers.idle,
    numbers.lengths,
    numbers.copies,
    motion.lag,
    motion.gripper,
)


def check(dataset: Dataset, images: bool = True, advance: Callable[[], object] = lambda: None) -> list[Finding]:
    """Everything that looks wrong, serious findings first.

    Args:
        dataset: an opened dataset; that files are missing or cut short has been found by opening it.
        images: also decode the cameras, which takes most of the time.
        advance: called after each episode of that.
    """
    recording = Recording(dataset)
    findings = [finding for run in CHECKS for finding in run(recording)]
    findings += _words(dataset)
    if images:
        findings += pictures.cameras(recording, advance)
    return sorted(findings, key=lambda finding: not finding.serious)


def _words(dataset: Dataset) -> Iterator[Finding]:
    if len(dataset.episodes) > 1 and (reason := why_words_are_idle([told_in_dataset(dataset)])):
        yield Finding("instructions", reason)
