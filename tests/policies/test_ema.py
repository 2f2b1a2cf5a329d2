"""The moving average of weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from policies.ema import ExponentialMovingAverage, ema_decay
from robot.errors import TongsError
from tests.policies import small


def test_decay_warms_up() -> None:
    assert ema_decay(1) == pytest.approx(2 / 11)
    assert ema_decay(0) == pytest.approx(0.1)
    assert ema_decay(10**6) == 0.999
    assert ema_decay(10**6, limit=0.9) == 0.9


def test_average_follows_the_recursion() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    average, expected = ExponentialMovingAverage(module), 1.0
    for step, value in enumerate([3.0, -2.0, 5.0], start=1):
        module.weight.data.fill_(value)
        average.update(step)
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * value
    assert average.state_dict()["weight"].item() == pytest.approx(expected)
    with average.swapped():
        assert module.weight.item() == pytest.approx(expected)
        assert average.state_dict()["weight"].item() == 5.0
    assert module.weight.item() == 5.0


def test_predict_uses_the_averaged_weights_while_swapped() -> None:
    policy, batch = small.policy().eval(), small.batch()
    average = ExponentialMovingAverage(policy)
    averaged = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05)

    def predict(which: torch.nn.Module) -> torch.Tensor:
        return which.predict(batch, torch.Generator().manual_seed(0))  # type: ignore[operator]

    live = predict(policy)
    with average.swapped():
        assert torch.equal(predict(policy), predict(averaged))
    assert torch.equal(predict(policy), live)
    assert not torch.equal(live, predict(averaged))


def test_resume_and_wrong_module() -> None:
    module = nn.Linear(2, 2)
    first, second = ExponentialMovingAverage(module), ExponentialMovingAverage(module)
    module.weight.data.add_(1.0)
    first.update(1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.state_dict()["weight"], second.state_dict()["weight"])
    with pytest.raises(TongsError, match="'bias'"):
        ExponentialMovingAverage(nn.Linear(2, 2, bias=False)).load_state_dict(first.state_dict())


def test_frozen_parameters_are_left_alone() -> None:
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    assert set(ExponentialMovingAverage(module).state_dict()) == {"weight"}
