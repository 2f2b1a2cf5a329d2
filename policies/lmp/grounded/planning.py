"""A plan, step by step: choose a command, let it be done, look again, go on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policies.lmp.grounded.decoding import Decoded
from policies.lmp.grounded.options import Scored
from robot.errors import TongsError

Choose = Callable[[str, Any], Decoded | Scored]
"""Chooses a command that follows a prompt in a state."""


@dataclass(frozen=True)
class Step:
    """A command that was carried out, and what choosing it took."""

    text: str
    choice: Decoded | Scored


@dataclass(frozen=True)
class Plan:
    """What was done.

    Attributes:
        steps: in order, without the "done".
        done: the model ended the plan; otherwise the limit of steps did, or a command that was cut off.
        scored_tokens: the language model's cost, the "done" included.
    """

    steps: tuple[Step, ...]
    done: bool
    scored_tokens: int


def plan(
    prompt: str,
    choose: Choose,
    observe: Callable[[], Any],
    execute: Callable[[str], None],
    most_steps: int = 20,
    heading: str = "Step {number}:",
    done: str = "done",
) -> Plan:
    """Plan and act until the model says that it is done.

    Args:
        prompt: examples and the task, with its line break at the end.
        choose: see `Choose`.
        observe: the state, asked before each step and not within one.
        execute: carries out a command.
        most_steps: after which the plan ends.
        heading: what each command follows.
        done: the command that ends the plan.

    Raises:
        TongsError: `most_steps` is below 1.
    """
    if most_steps < 1:
        raise TongsError(f"a plan has at least 1 step, not {most_steps}")
    steps: list[Step] = []
    cost = 0
    while True:
        choice = choose(prompt + heading.format(number=len(steps) + 1), observe())
        cost += choice.scored_tokens
        if choice.text == done:
            return Plan(tuple(steps), True, cost)
        if isinstance(choice, Decoded) and not choice.ended:
            return Plan(tuple(steps), False, cost)
        execute(choice.text)
        prompt += f"{heading.format(number=len(steps) + 1)} {choice.text}\n"
        steps.append(Step(choice.text, choice))
        if len(steps) == most_steps:
            return Plan(tuple(steps), False, cost)
