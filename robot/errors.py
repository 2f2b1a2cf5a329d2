"""Errors that a user can act on: one sentence that says what was wrong, which value, and what would be right."""


class TongsError(Exception):
    """Bad input or a missing piece of the machine; the command line prints its message and exits with status 2."""


class ContractError(TongsError):
    """A policy and a robot that do not fit each other, or a value that breaks the contract of `robot.interface`."""


class UnreachableError(TongsError):
    """A policy server that cannot be reached, or does not answer in time: an arm that follows it has to hold."""


def unknown(kind: str, given: object, known: list[str] | tuple[str, ...]) -> TongsError:
    """The error for a name that is not in a closed list: `unknown("task", "fly", ["open_drawer", ...])`."""
    return TongsError(f"unknown {kind} {given!r}; known are: {', '.join(sorted(known))}")
