"""What a generated program may use up before it is ended."""

from dataclasses import dataclass

from robot.errors import TongsError


@dataclass(frozen=True)
class SandboxLimits:
    """Bounds on one program (a call of `Sandbox.run`) and on the process it runs in.

    A program that passes one is ended, `Outcome.reason` names which, and the robot gets no further call from it.
    """

    seconds: float = 5.0
    """Computing time of a program in s, by the clock on the wall; the clock stands still during API calls."""
    total_seconds: float = 600.0
    """Time of a program in s with its API calls, so with the motions of the robot and the answers of models."""
    control_period: float = 0.1
    """s within which `Sandbox.stop` and the two limits above end a program."""
    process_seconds: int = 3600
    """CPU time in s of the process, over all programs of its session (RLIMIT_CPU)."""
    memory_mb: int = 512
    """Memory in MiB that programs may take on top of what Python and NumPy need (RLIMIT_AS)."""
    calls: int = 2000
    """API calls of one program."""
    calls_per_second: int = 1000
    """API calls of one program within any second."""
    nesting: int = 8
    """How many programs may wait for one another (an API function that runs a program itself)."""
    code: int = 50_000
    """Characters of a program."""
    text: int = 10_000
    """Characters of a string that goes to or comes from an API function."""
    numbers: int = 10_000
    """Elements of an array, and entries in all lists and dictionaries of one value, that go to or come from an API
    function."""
    printed: int = 20_000
    """Characters that are kept of what a program prints."""
    every_wall: bool = False
    """Refuse to run where the operating system lacks one of the walls that `Sandbox.walls` lists."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "every_wall" and not value > 0:
                raise TongsError(f"SandboxLimits.{name} has to be above 0, not {value!r}")
