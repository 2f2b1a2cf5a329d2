"""The training of the embedded language model: next-token prediction on the programs of instruction-program pairs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from policies.lmp.language_models.embedded import ANSWER, END, PAD, EmbeddedModel
from robot.errors import TongsError
from sim.tasks import SINGLE, TABLETOP
from train.programs.pairs import Pair, pairs
from train.programs.plans import PLANS

PROGRAMS = (*SINGLE, "compose", *TABLETOP)
"""Tasks that are done by programs, of which each question has one right answer."""
ALL = (*PROGRAMS, *PLANS)
_SHUFFLED = 4000
"""Pairs among which the next one is drawn: those of a scene come together."""
_PARTS = 4
"""Into how many parts a batch goes through the network, by length: so most of it is no padding."""
_WHOLE = 0.3
"""Share of the lessons of which the question is learned as well: names that come again in it teach to copy."""
_IGNORED = -100
"""The label of a token that is not to be learned (transformers)."""


@dataclass(frozen=True)
class TeachConfig:
    """How the embedded model is made.

    Attributes:
        output: folder of the model; a training that was cut short goes on from there.
        tasks: whose instructions.
        steps, batch: of the training, in pairs.
        learning_rate, warmup: peak of the cosine schedule, and steps until it.
        width, layers, heads, inner: of the network.
        vocabulary: tokens, of which the digits are single ones.
        longest: tokens of a question with its program.
        tokenizer_pairs: from which the tokens are made.
        seed: of everything random.
        checkpoint: steps between two checkpoints.
        questions: asked at the end to see what was learned, of each of two splits.
    """

    output: str
    tasks: tuple[str, ...] = ALL
    steps: int = 6000
    batch: int = 64
    learning_rate: float = 1.5e-3
    warmup: int = 200
    width: int = 256
    layers: int = 6
    heads: int = 8
    inner: int = 640
    vocabulary: int = 1024
    longest: int = 640
    tokenizer_pairs: int = 8000
    seed: int = 0
    checkpoint: int = 500
    questions: int = 300

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "width",
            "layers",
            "heads",
            "inner",
            "longest",
            "tokenizer_pairs",
            "checkpoint",
            "questions",
        ):
            if getattr(self, name) < 1:
                raise TongsError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.vocabulary < 300:
            raise TongsError(f"vocabulary must be 300 or more (a byte is a token), got {self.vocabulary}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise TongsError(f"width must be an even multiple of heads, got {self.width} and {self.heads}")


def teach(config: TeachConfig) -> Path:
    """Train the model and write its folder with a card.

    Raises:
        TongsError: bad settings.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(config, folder)
    torch.manual_seed(config.seed)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.inner,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.longest,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    work, parts = folder / "training", gcd(_PARTS, config.batch)
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch // parts,
        gradient_accumulation_steps=parts,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup, config.steps // 4),
        lr_scheduler_type="cosine",
        weight_decay=0.05,
        max_grad_norm=1.0,
        logging_steps=max(1, min(50, config.steps // 10)),
        save_steps=config.checkpoint,
        save_total_limit=1,
        seed=config.seed,
        report_to=[],
        remove_unused_columns=False,
        ignore_data_skip=True,
        dataloader_num_workers=0,
        disable_tqdm=True,
    )
    last = get_last_checkpoint(str(work)) if work.is_dir() else None
    done = int(last.rsplit("-", 1)[1]) if last else 0
    lessons = Lessons(tokenizer, config, config.seed + 1 + done)  # other pairs after going on
    trainer = Trainer(
        model=network, args=arguments, train_dataset=lessons, data_collator=Padding(tokenizer.pad_token_id)
    )
    trainer.train(resume_from_checkpoint=last)
    network.save_pretrained(folder)
    asked = [task for task in config.tasks if task in PROGRAMS]
    splits = ("val", "novel_object") if asked else ()
    scores = {split: accuracy(folder, split, config.questions, asked) for split in splits}
    (folder / "README.md").write_text(_card(config, network, scores), encoding="utf-8")
    (folder / "teaching.json").write_text(json.dumps(asdict(config) | {"accuracy": scores}, indent=1) + "\n", "utf-8")
    return folder


def accuracy(folder: Path, split: str, count: int, tasks: Sequence[str] = PROGRAMS, seed: int = 7) -> float:
    """The share of questions from other scenes that the model answers with the very program it should."""
    model, right = EmbeddedModel(folder), 0
    for pair in itertools.islice(pairs(seed, tasks, split), count):
        right += model.complete(pair.prompt, [], 256, 0.0).text.strip() == pair.code
    return right / count


def _tokenizer(config: TeachConfig, folder: Path) -> Any:
    """Bytes and pairs of them that come often; digits stay alone, so that every number can be said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        tokenizer = Tokenizer(models.BPE())
        digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level])  # type: ignore[assignment]
        tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocabulary,
            special_tokens=[PAD, END, ANSWER],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = (
            text
            for pair in itertools.islice(pairs(config.seed, config.tasks), config.tokenizer_pairs)
            for text in (pair.question, pair.code)
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.save(str(path))
    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token=PAD, eos_token=END)


class Lessons(IterableDataset[dict[str, list[int]]]):
    """Tokens of questions and programs, and labels that count for the programs only."""

    def __init__(self, tokenizer: Any, config: TeachConfig, seed: int) -> None:
        self._tokenizer, self._config, self._seed = tokenizer, config, seed

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        """Batch by batch; those of a batch from the shortest to the longest."""
        rng, waiting, batch = np.random.default_rng(self._seed), [], []
        for pair in pairs(self._seed, self._config.tasks):
            lesson = self.tokens(pair, whole=rng.random() < _WHOLE)
            if len(lesson["input_ids"]) <= self._config.longest:
                waiting.append(lesson)
            if len(waiting) >= _SHUFFLED:
                position = int(rng.integers(len(waiting)))
                waiting[position], waiting[-1] = waiting[-1], waiting[position]
                batch.append(waiting.pop())
            if len(batch) == self._config.batch:
                yield from sorted(batch, key=lambda lesson: len(lesson["input_ids"]))
                batch = []

    def tokens(self, pair: Pair, whole: bool = False) -> dict[str, list[int]]:
        """`input_ids` and `labels` of a pair; those of the question too if the `whole` is to be learned."""
        question = self._tokenizer(pair.question, add_special_tokens=False)["input_ids"]
        answer = [*self._tokenizer(pair.code, add_special_tokens=False)["input_ids"], self._tokenizer.eos_token_id]
        return {"input_ids": question + answer, "labels": (question if whole else [_IGNORED] * len(question)) + answer}


class Padding:
    """Puts lessons of different length into one batch."""

    def __init__(self, pad: int) -> None:
        self._fill = {"input_ids": pad, "labels": _IGNORED}

    def __call__(self, lessons: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
        length = max(len(lesson["input_ids"]) for lesson in lessons)
        batch = {
            name: torch.tensor([lesson[name] + [fill] * (length - len(lesson[name])) for lesson in lessons])
            for name, fill in self._fill.items()
        }
        lengths = torch.tensor([[len(lesson["input_ids"])] for lesson in lessons])
        return batch | {"attention_mask": (torch.arange(length)[None] < lengths).long()}


def _card(config: TeachConfig, network: torch.nn.Module, scores: dict[str, float]) -> str:
    weights = sum(parameter.numel() for parameter in network.parameters())
    measured = ""
    if scores:
        measured = (
            f"- exact programs on {config.questions} questions from other scenes: {scores['val']:.1%}; with colours "
            f"and shapes that training never names: {scores['novel_object']:.1%}\n"
        )
    return (
        "# The embedded language model\n\n"
        "Writes programs for a robot arm from instructions, in the language-model programs of Tongs (`policy=lmp`), "
        "and plans in words for grounded decoding. It knows nothing but the API and the forms of instruction that it "
        "was taught.\n\n"
        f"- {weights:,} parameters: a decoder of {config.layers} layers, {config.width} wide; "
        f"{config.vocabulary} tokens\n"
        "- taught from scratch on instruction-program pairs, and plans, that `train/programs/` makes from the training "
        "scenes, with seen wordings and seen forms of instruction only\n"
        f"- tasks: {', '.join(config.tasks)}\n"
        f"{measured}\n"
        "```sh\n"
        f"tongs teach steps={config.steps} batch={config.batch} seed={config.seed} output={config.output}\n```\n"
    )
