"""The score transformer: token order, causality, shared embeddings, and its attention against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from policies.beso.score_transformer import ScoreTransformer
from policies.transformer import Attention, causal_mask, padding_mask

B, T, H, G, A, S = 2, 3, 4, 2, 5, 6


def build(window: int = T, horizon: int = H, causal_chunk: bool = False) -> ScoreTransformer:
    torch.manual_seed(0)
    network = ScoreTransformer(S, A, G, window, horizon, width=16, layers=2, heads=2, causal_chunk=causal_chunk)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def inputs(window: int = T, horizon: int = H, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    actions = torch.randn(B, window - 1 + horizon, A, generator=g)
    states, goals = torch.randn(B, window, S, generator=g), torch.randn(B, G, S, generator=g)
    return actions, states, goals, torch.randn(B, generator=g)


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (4, 1), (1, 12), (3, 4)])
def test_length_and_output_shape(window: int, horizon: int) -> None:
    network, given = build(window, horizon), inputs(window, horizon)
    assert network.tokens(*given).shape == (B, 1 + G + 2 * window + horizon - 1, 16)
    assert network(*given).shape == (B, window - 1 + horizon, A)
    assert network.position.shape[0] == G + window + horizon  # G + T + 1 with H = 1, as in the paper


def test_token_order_and_positions() -> None:
    """[sigma, g_1..g_G, s_1, a_1, ..., s_T, a_T, a_T+1, ...], spelled out token by token."""
    network = build()
    actions, states, goals, noise = inputs()
    state, action, where = network.state_embedding, network.action_embedding, network.position
    expected = [network.noise_embedding(noise[:, None])]
    expected += [state(goals[:, i]) + where[i] for i in range(G)]
    for i in range(T):
        expected += [state(states[:, i]) + where[G + i], action(actions[:, i]) + where[G + i]]
    expected += [action(actions[:, i]) + where[G + i] for i in range(T, T - 1 + H)]
    torch.testing.assert_close(network.tokens(actions, states, goals, noise), torch.stack(expected, dim=1))


def test_outputs_are_read_at_the_action_tokens() -> None:
    network, given = build(causal_chunk=True), inputs()
    tokens = network.tokens(*given)
    for block in network.blocks:
        tokens = block(tokens, causal_mask(tokens.shape[1], tokens.device))
    places = [1 + G + 2 * i + 1 for i in range(T)] + [1 + G + 2 * T + i for i in range(H - 1)]
    torch.testing.assert_close(network(*given), network.action_head(network.final_norm(tokens[:, places])))


def test_causal_later_tokens_do_not_change_earlier_outputs() -> None:
    network = build(causal_chunk=True)
    actions, states, goals, noise = inputs()
    before = network(actions, states, goals, noise)
    other_actions, other_states = actions.clone(), states.clone()
    other_actions[:, 1:] += 1
    other_states[:, 1:] += 1
    after = network(other_actions, other_states, goals, noise)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])
    only_last = actions.clone()
    only_last[:, -1] += 1
    after = network(only_last, states, goals, noise)
    torch.testing.assert_close(after[:, :-1], before[:, :-1])
    assert not torch.allclose(after[:, -1], before[:, -1])


def test_actions_of_the_newest_chunk_see_each_other_and_nothing_earlier_sees_them() -> None:
    network = build()
    actions, states, goals, noise = inputs()
    before = network(actions, states, goals, noise)
    only_last = actions.clone()
    only_last[:, -1] += 1
    changed = (network(only_last, states, goals, noise) - before).abs().amax(dim=(0, 2))
    assert (changed[: T - 1] == 0).all() and (changed[T - 1 :] > 1e-4).all()


def test_with_a_horizon_of_one_the_chunk_makes_no_difference() -> None:
    given = inputs(4, 1)
    assert torch.equal(build(4, 1)(*given), build(4, 1, causal_chunk=True)(*given))


@pytest.mark.parametrize("which", ["goals", "noise", "first state"])
def test_goal_noise_and_first_state_reach_every_action(which: str) -> None:
    network = build()
    actions, states, goals, noise = inputs()
    before = network(actions, states, goals, noise)
    if which == "goals":
        goals = goals + 1
    elif which == "noise":
        noise = noise + 1
    else:
        states = states.clone()
        states[:, 0] += 1
    changed = (network(actions, states, goals, noise) - before).abs().amax(dim=(0, 2))
    assert (changed > 1e-4).all()


def test_gradient_reaches_every_used_parameter() -> None:
    network = build().train()
    network(*inputs()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert network.position.grad is not None and (network.position.grad[-1] == 0).all()  # the spare row


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_torchs(causal: bool) -> None:
    torch.manual_seed(0)
    attention, x = Attention(16, 4), torch.randn(3, 7, 16)
    present = torch.arange(7) < torch.tensor([[7], [4], [1]])
    mask = causal_mask(7, x.device) if causal else padding_mask(present)
    query, key, value = (
        part.view(3, 7, 4, 4).transpose(1, 2) for part in attention.query_key_value(x).chunk(3, dim=-1)
    )
    allowed = None if causal else present[:, None, None, :].expand(3, 4, 7, 7)
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=allowed, is_causal=causal)
    expected = attention.projection(mixed.transpose(1, 2).reshape(3, 7, 16))
    torch.testing.assert_close(attention(x, mask), expected)
