"""Queries put to a VLA's network, many in one pass, and how its answers are learned and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.rth.config import ACTION, FLAT, JOINT, MOTION, QUERIES
from policies.vla.action_heads import L1Head
from policies.vla.config import L1
from policies.vla.model import IGNORED, VisionLanguageAction
from policies.vla.sequence import NextToken, multimodal
from policies.vla.sequence import Sequence as Tokens
from robot.errors import TongsError


@dataclass(frozen=True)
class Query:
    """What is asked about the observation number `row`: one of `QUERIES`, in the words `text`."""

    kind: str
    row: int
    text: str


@dataclass(frozen=True)
class Answer:
    """What was said: the label of a motion, scaled actions (H, A); None where none was asked for, or where what was
    said is none."""

    label: str | None = None
    actions: Tensor | None = None


class Answers:
    """Teaches and reads answers.

    With an autoregressive backbone an answer is a text, token after token: a motion is words and the end token, actions
    are H * A action tokens, both together are the words and then the action tokens. With parallel decoding (OFT) the
    first `motion_tokens` places after a query say its motion and the first H * A its actions, or those after the
    motion's places where both are asked for; all of it in one pass. Each place then speaks for itself, so what is taken
    is the likeliest of the motions known.

    Args:
        network: the backbone's.
        motion_tokens: most tokens of a motion and its end; 0 for a network that is never asked for one.
        joint: whether motion and actions may be asked for together.
    """

    def __init__(self, network: VisionLanguageAction, motion_tokens: int, joint: bool) -> None:
        self.network, self.motion_tokens = network, motion_tokens
        self.numbers = network.size.horizon * network.size.actions
        self._places = self.numbers + motion_tokens if joint else max(self.numbers, motion_tokens)
        self._ids: dict[str, Tensor] = {}

    def prepare(self, labels: Sequence[str]) -> None:
        """From now on motions are these labels.

        Raises:
            TongsError: one is too long.
        """
        self.known = tuple(labels)
        rows = [self.label_ids(label) for label in self.known]
        self._table = nn.utils.rnn.pad_sequence(rows, True, IGNORED) if rows else torch.empty(0, 1, dtype=torch.long)

    def label_ids(self, label: str) -> Tensor:
        """The tokens of a motion, with the end token."""
        if label not in self._ids:
            config, prompter = self.network.config, self.network.prompter
            ids = prompter.ids(label)[1:].tolist()
            if config.answer_token is not None:
                ids = ids[:-1]
            ids.append(config.end_token)
            if len(ids) > self.motion_tokens:
                raise TongsError(f"motion {label!r} has {len(ids)} tokens, and motion_tokens is {self.motion_tokens}")
            self._ids[label] = torch.tensor(ids)
        return self._ids[label]

    def sequence(self, image: Tensor, queries: Sequence[Query]) -> Tokens:
        """The queries, each behind what is seen in its row of `image` (B, P, width)."""
        texts = self.network.prompter.batch([query.text for query in queries], image.device)
        rows = torch.tensor([query.row for query in queries], device=image.device)
        return multimodal(texts, image[rows], self.network.embed)

    # --- learning

    def losses(
        self, image: Tensor, queries: Sequence[Query], labels: Sequence[str], actions: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What each of B queries costs as a motion and as actions, (B,) each; 0 where that is not asked for.

        Args:
            image: what is seen (B, P, width).
            queries: B of them.
            labels: of the motions to be said; "" where none is known, which costs nothing.
            actions: scaled chunks (B, H, A).
            weight: of each action (B, H).
        """
        sequence = self.sequence(image, queries)
        nothing = torch.empty(0, dtype=torch.long)
        words = [
            self.label_ids(label) if label and query.kind in (MOTION, JOINT) else nothing
            for query, label in zip(queries, labels, strict=True)
        ]
        acts = torch.tensor([query.kind != MOTION for query in queries], device=weight.device)
        weight = weight * acts[:, None]
        learn = self._parallel_losses if self.network.config.in_parallel else self._spoken_losses
        return learn(sequence, queries, words, actions, weight)

    def _parallel_losses(
        self, sequence: Tokens, queries: Sequence[Query], words: Sequence[Tensor], actions: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        network, device = self.network, actions.device
        states = self._states(sequence)
        target = torch.full((len(words), self.motion_tokens), IGNORED)
        for row, ids in enumerate(words):
            target[row, : len(ids)] = ids
        target = target.to(device)
        said = network.language_model.get_output_embeddings()(states[:, : self.motion_tokens])
        motion = _mean_entropy(said.float(), target, torch.ones_like(target, dtype=torch.float32))
        places = self._action_places(states, queries)
        if network.config.prediction == L1:
            assert isinstance(network.action_head, L1Head)
            error = (network.action_head(places).float() - actions).abs().mean(dim=-1)  # (B, H)
            return motion, _row_mean(error, weight)
        _, labels, share = network.labelled(actions, weight)
        logits = network.language_model.get_output_embeddings()(places)
        return motion, _mean_entropy(logits.float(), labels, share)

    def _spoken_losses(
        self, sequence: Tokens, queries: Sequence[Query], words: Sequence[Tensor], actions: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        network, end = self.network, self.network.config.end_token
        numbers, _, shares = network.labelled(actions, weight)
        rows, motions, acts = [], [], []
        for row, query in enumerate(queries):
            said = words[row].to(actions.device)
            said = said[:-1] if query.kind == JOINT else said  # actions follow, and have an end of their own
            follows = numbers[row] if query.kind != MOTION else numbers[row][:0]
            rows.append(torch.cat([said, follows]))
            motions.append(torch.cat([torch.ones_like(said), torch.zeros_like(follows)]).float())
            acts.append(torch.cat([torch.zeros(len(said), device=actions.device), shares[row][: len(follows)]]))
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
        if not tokens.shape[1]:  # nothing is known to be said
            free = sequence.embeddings.flatten(1).sum(dim=1) * 0.0
            return free, free
        motion, share = (nn.utils.rnn.pad_sequence(of, batch_first=True) for of in (motions, acts))
        filled = tokens.masked_fill(tokens == IGNORED, end)
        logits = network.token_logits(sequence, filled, tokens != IGNORED).float()
        return _mean_entropy(logits, tokens, motion), _mean_entropy(logits, tokens, share)

    def _states(self, sequence: Tokens) -> Tensor:
        """Hidden states of the places that are answers, as many for every query, in training and in use."""
        batch, _, width = sequence.embeddings.shape
        return self.network.chunk_states(sequence, sequence.embeddings.new_zeros(batch, self._places, width))

    def _action_places(self, states: Tensor, queries: Sequence[Query]) -> Tensor:
        """The states (B, H * A, width) that say the actions."""
        begin = torch.tensor([self.motion_tokens * (query.kind == JOINT) for query in queries], device=states.device)
        places = begin[:, None] + torch.arange(self.numbers, device=states.device)
        return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))

    # --- being asked

    @torch.no_grad()
    def ask(self, image: Tensor, queries: Sequence[Query]) -> list[Answer]:
        """The answers to queries about what is seen (B, P, width), in one batched pass."""
        sequence = self.sequence(image, queries)
        if not self.network.config.in_parallel:
            spoken = self._speak(sequence, queries)
            return [self._read(query, tokens) for query, tokens in zip(queries, spoken, strict=True)]
        states = self._states(sequence)
        labels = self._likeliest(states, queries)
        places = self._action_places(states, queries)
        network = self.network
        if network.config.prediction == L1:
            assert isinstance(network.action_head, L1Head)
            actions = network.action_head(places).float()
        else:
            tokens = network.language_model.get_output_embeddings()(places).float().argmax(dim=-1)
            asked = torch.tensor([query.kind != MOTION for query in queries], device=tokens.device)
            valid = self._are_actions(tokens).all(dim=1) | ~asked
            actions = network.action_tokenizer.decode(list(tokens))
            actions = [chunk if fine else None for chunk, fine in zip(actions, valid.tolist(), strict=True)]
        return [_answer(query, label, chunk) for query, label, chunk in zip(queries, labels, actions, strict=True)]

    def _likeliest(self, states: Tensor, queries: Sequence[Query]) -> list[str | None]:
        """The known label of the highest probability, the product of those of its tokens and its end at their
        places."""
        if not any(query.kind in (MOTION, JOINT) for query in queries) or not self.known:
            return [None] * len(queries)
        logits = self.network.language_model.get_output_embeddings()(states[:, : self.motion_tokens])
        logs = logits.float().log_softmax(dim=-1)  # (B, M, vocabulary)
        table = self._table.to(logs.device)
        places = torch.arange(table.shape[1], device=logs.device).expand_as(table)
        each = logs[:, places, table.clamp(min=0)]  # (B, known, M)
        best = (each * (table != IGNORED)).sum(dim=-1).argmax(dim=-1).tolist()
        return [self.known[number] for number in best]

    def _speak(self, sequence: Tokens, queries: Sequence[Query]) -> list[Tensor]:
        """The likeliest tokens of each answer, one after another, without the end token."""
        network, end = self.network, self.network.config.end_token
        longest = {MOTION: self.motion_tokens, JOINT: self.motion_tokens + self.numbers}
        limits = torch.tensor([longest.get(query.kind, self.numbers) for query in queries], device=sequence.real.device)
        ended = torch.zeros_like(limits, dtype=torch.bool)
        following, tokens = NextToken(network.language_model, network.embed, sequence), []
        for step in range(int(limits.max())):
            token = following.logits.argmax(dim=-1).masked_fill(ended, end)
            tokens.append(token)
            ended |= (token == end) | (step + 1 >= limits)
            if bool(ended.all()):
                break
            following.take(token)
        rows = torch.stack(tokens, dim=1)
        counts = (rows != end).long().cumprod(dim=1).sum(dim=1).tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def _read(self, query: Query, tokens: Tensor) -> Answer:
        """A spoken answer. The words of a motion end with the end token, or where the first action token stands."""
        network = self.network
        is_action = self._are_actions(tokens)
        begin = int(is_action.long().argmax()) if bool(is_action.any()) else len(tokens)
        label = actions = None
        if query.kind in (MOTION, JOINT):
            said = network.prompter.words.said(tokens[:begin].tolist()).strip()
            whole = query.kind == JOINT or (begin == len(tokens) and len(tokens) < self.motion_tokens)
            label = said if said and whole else None
        if query.kind != MOTION:
            begin = begin if query.kind == JOINT else 0
            numbers = tokens[begin:]
            if len(numbers) == self.numbers and bool(self._are_actions(numbers).all()):
                actions = network.action_tokenizer.decode([numbers])[0]
        return _answer(query, label, actions)

    def _are_actions(self, tokens: Tensor) -> Tensor:
        """Which tokens stand for numbers."""
        return (tokens >= self.network.action_tokenizer.first) & (tokens < self.network.config.vocabulary)


def _answer(query: Query, label: str | None, actions: Tensor | None) -> Answer:
    """What belongs to a query."""
    assert query.kind in QUERIES
    return Answer(
        label if query.kind in (MOTION, JOINT) else None, actions if query.kind in (FLAT, ACTION, JOINT) else None
    )


def _mean_entropy(logits: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """The cross-entropy (B,) of tokens (B, K), the mean over each row's tokens with a share."""
    entropy = nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return _row_mean(entropy.view(target.shape), share * (target != IGNORED))


def _row_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of every row (B, K); zero where nothing has weight."""
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-8)
