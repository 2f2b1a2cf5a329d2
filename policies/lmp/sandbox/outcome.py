"""What running a program gave: values, what it printed, what it asked of the robot, and how it ended."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

Reason: TypeAlias = Literal["finished", "refused", "error", "time", "memory", "calls", "stopped", "crashed"]


@dataclass(frozen=True)
class Geometry:
    """A shapely geometry on its way out of or into a program, in GeoJSON's terms (RFC 7946, section 3.1)."""

    kind: str
    """`Point`, `LineString`, `Polygon`, `MultiPoint`, ..."""
    coordinates: list[Any]
    """Nested lists of numbers, nested as deep as GeoJSON says for this kind; m."""


Value: TypeAlias = None | bool | int | float | str | np.ndarray | Geometry | list["Value"] | dict[str, "Value"]
"""What passes between a program and us. Tuples arrive as lists, NumPy's scalars as Python's."""


@dataclass(frozen=True)
class Call:
    """One call of an API function by a program."""

    name: str
    arguments: dict[str, Any]
    """As the function got them: checked, by parameter name. As the program gave them where they were refused."""
    result: Value = None
    error: str | None = None
    """Why the call was refused or failed; None when it succeeded."""
    started: float = 0.0
    """s since the start of the program."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    reason: Reason
    """`finished`; `refused` before it ran (a syntax error, or something programs may not do); `error` (an exception);
    `time`, `memory` or `calls` (a limit of `SandboxLimits`); `stopped` by `Sandbox.stop`; `crashed` (its process died).
    """
    error: str | None = None
    """One sentence; None when it finished."""
    trace: str = ""
    """The program's own lines that led to the error, outermost first, then the error: fit to be shown to a model."""
    variables: dict[str, Value] = field(default_factory=dict)
    """The session's variables after the program, those of type `Value` (functions are not) within the limits; before
    the program where it could not be asked any more (`restarted`)."""
    functions: dict[str, str] = field(default_factory=dict)
    """Source code of the functions that programs of the session have defined at their top level, in order."""
    printed: str = ""
    calls: tuple[Call, ...] = ()
    """In order, with those that were refused."""
    seconds: float = 0.0
    """Computing time, without API calls."""
    restarted: bool = False
    """The process had to be ended: the session goes on with `variables` and `functions`, other objects are lost."""

    @property
    def ok(self) -> bool:
        """The program ran to its end."""
        return self.reason == "finished"
