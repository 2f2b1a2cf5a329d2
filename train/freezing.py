"""Parameters that training leaves as they are, chosen by patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from robot.errors import TongsError


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Take the parameters that match a pattern (shell wildcards: `encoder.*`) out of training.

    Raises:
        TongsError: a pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            parts = ", ".join(f"{part}.*" for part in dict.fromkeys(name.partition(".")[0] for name in names))
            raise TongsError(f"freeze: no parameter is called {pattern}; the policy has: {parts}")
    for name, parameter in module.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise TongsError(f"freeze: {', '.join(patterns)} leaves nothing to train")


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """Batch norms without a trained parameter: their running statistics have to stay as they are, too."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.affine and not any(p.requires_grad for p in norm.parameters())]
