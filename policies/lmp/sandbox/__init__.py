"""Runs programs that nobody has read: in a process apart, with checked code, behind the operating system's walls.

with Sandbox({"say": say, "put": put}, SandboxLimits(seconds=2)) as sandbox:
    outcome = sandbox.run("say('hello')\\nret_val = np.linspace(0, 1, 3)")
    outcome.ok, outcome.variables["ret_val"], outcome.calls
    outcome = sandbox.run("put(ret_vall)")
    outcome.error, outcome.trace
"""

from policies.lmp.sandbox.limits import SandboxLimits
from policies.lmp.sandbox.outcome import Call, Geometry, Outcome, Reason, Value
from policies.lmp.sandbox.sandbox import Sandbox

__all__ = ["Call", "Geometry", "Outcome", "Reason", "Sandbox", "SandboxLimits", "Value"]
