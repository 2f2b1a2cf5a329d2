"""The processes that train one policy together: accelerate, with DDP or FSDP over a policy's loss."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from policies.base import Batch, PolicyModule
from policies.randomness import Randomness
from robot.errors import TongsError

LONGEST_WAIT = timedelta(hours=12)
"""While the main process plays a policy in closed loop, the others wait for it."""
Value = TypeVar("Value")


class PolicyLoss(nn.Module):
    """`policy.loss` as a forward pass, which is what DDP and FSDP wrap."""

    def __init__(self, policy: PolicyModule) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch, randomness: Randomness) -> dict[str, Tensor]:
        return self.policy.loss(batch, randomness)


class Processes:
    """This process among those of its run; alone, everything here is what a plain training loop does.

    Whatever all processes have to do together (nearly everything here is) must be called by all of them.

    Attributes:
        index: number of this process.
        count: how many there are.
        main: whether this is the one that writes.
        device: where this one computes.

    Args:
        device: `auto`, `cpu` or `cuda`.
        bf16: compute in bfloat16 where autocast allows it.
        parallel: `ddp` or `fsdp`, for more than one process.

    Raises:
        TongsError: there is no such device, or `accelerate launch` was told of another way to share the work.
    """

    def __init__(self, device: str, bf16: bool = False, parallel: str = "ddp") -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState

        if device == "cuda" and not torch.cuda.is_available():
            raise TongsError("device cuda was asked for, but torch sees no GPU; use cpu or auto")
        if not torch.distributed.is_initialized():  # accelerate keeps the device and precision of an earlier run
            AcceleratorState._reset_state(reset_partial_state=True)
        else:
            AcceleratorState._reset_state()
        self._accelerator = Accelerator(
            cpu=device == "cpu" or not torch.cuda.is_available(),
            mixed_precision="bf16" if bf16 else "no",
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=LONGEST_WAIT),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
        ours = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        if self._accelerator.distributed_type not in ours:
            kind = self._accelerator.distributed_type.value
            raise TongsError(f"accelerate was told to use {kind}; leave that out and give train.parallel=ddp or fsdp")
        self.index = self._accelerator.process_index
        self.count = self._accelerator.num_processes
        self.main = self._accelerator.is_main_process
        self.device = self._accelerator.device
        self._sharded = parallel == "fsdp" and self.count > 1
        self._plain: PolicyModule | None = None
        _require_launched(self.count)

    def prepare(self, policy: PolicyModule) -> nn.Module:
        """The policy's loss as a module to call; moves the policy to the device and, with FSDP, parts its weights.

        FSDP is torch's own here: accelerate offers it on GPUs only, where no test of ours would see it.
        """
        policy.to(self.device)
        loss = PolicyLoss(policy)
        if not self._sharded:
            return self._accelerator.prepare_model(loss)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        if self.main:
            self._plain = copy.deepcopy(policy).cpu().eval()
        for value in policy.state_dict().values():
            torch.distributed.broadcast(value, 0)
        mesh = init_device_mesh(self.device.type, (self.count,))
        for part in policy.heavy_parts:
            fully_shard(part, mesh=mesh)
        fully_shard(loss, mesh=mesh)
        return self._accelerator.prepare_model(loss, evaluation_mode=True)  # that is, without DDP around it

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within this context DDP adds gradients up here, to exchange them later; FSDP has no room for that."""
        return self._accelerator.no_sync(module)

    def clip(self, parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
        """Scale the gradients of the whole policy to at most this norm; the norm before."""
        return _whole(nn.utils.clip_grad_norm_(parameters, largest))

    def require_all_used(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Raise after a first backward pass if DDP would wait for gradients that never come."""
        unused = [name for name, parameter in parameters.items() if parameter.grad is None]
        if unused and self.count > 1 and not self._sharded:
            raise TongsError(
                f"{len(unused)} parameters take no part in the loss, the first is {unused[0]}; several processes need "
                "them frozen, see train.freeze"
            )

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value added up over the processes."""
        return self._reduced(values, torch.distributed.ReduceOp.SUM) if self.count > 1 else list(values)

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over the processes."""
        return self._reduced(values, torch.distributed.ReduceOp.MAX) if self.count > 1 else list(values)

    def gathered(self, value: Value) -> list[Value]:
        """Everybody's value, by process."""
        from accelerate.utils import gather_object

        return gather_object([value]) if self.count > 1 else [value]

    def agreed(self, value: Value) -> Value:
        """The main process's value."""
        return self.gathered(value)[0]

    def wait(self) -> None:
        """Until all are here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """The end of working together."""
        self._accelerator.end_training()

    def part_again(self, module: nn.Module) -> None:
        """Let go of whole weights that FSDP keeps after a forward pass, in the belief that a backward pass follows."""
        if self._sharded:
            from torch.distributed.fsdp import FSDPModule

            for part in module.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()

    def plain(self, policy: PolicyModule) -> PolicyModule:
        """The policy with all of its present weights, to save or to play; with FSDP a copy, and on main only."""
        if not self._sharded:
            return policy
        weights = self.whole(policy.state_dict())
        if self._plain is None:
            return policy
        self._plain.load_state_dict(weights)
        return self._plain

    def whole(self, state: Any) -> Any:
        """A nested state with every tensor that FSDP has parted put together; empty ones elsewhere than on main."""
        if not self._sharded:
            return state
        if isinstance(state, Tensor):
            full = _whole(state)
            return full.cpu() if self.main else full.new_empty(0)
        if isinstance(state, Mapping):
            return {key: self.whole(value) for key, value in state.items()}
        return [self.whole(value) for value in state] if isinstance(state, list) else state

    def parted(self, state: Mapping[str, Any], like: Mapping[str, Tensor]) -> dict[str, Any]:
        """Whole tensors parted as FSDP has parted those of the same name in `like`, where they have its shape."""
        if not self._sharded:
            return dict(state)
        from torch.distributed.tensor import DTensor, distribute_tensor

        def part(value: Any, model: Tensor) -> Any:
            if not isinstance(model, DTensor) or not isinstance(value, Tensor) or value.shape != model.shape:
                return value
            return distribute_tensor(value.to(self.device), model.device_mesh, model.placements)

        return {name: part(value, like[name]) for name, value in state.items()}

    def _reduced(self, values: Sequence[float], operation: Any) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(numbers, operation)
        return numbers.tolist()


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]


def _require_launched(count: int) -> None:
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != count:
        raise TongsError(f"{wanted} processes were asked for and {count} found; start them with torchrun")
