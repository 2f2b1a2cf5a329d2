"""The tables and the figure of BESO's reproduction, and which of its claims hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import reproduction_report
from eval.pushing import Mean
from eval.reproduction_report import Cells, Claims

if TYPE_CHECKING:
    from eval.reproduce_beso import ReproductionConfig


def write_report(config: ReproductionConfig, cells: Cells, folder: Path) -> Path:
    """`report.md` with the three tables and the claims, and `figure.png`; returns the report."""
    a, b, c = (
        _by(cells, "a", "policy", "guidance"),
        _by(cells, "b", "sampler", "steps"),
        _by(cells, "c", "policy"),
    )
    lines = [
        f"{config.demonstrations} demonstrations, {config.seeds} seeds, {config.train_steps} steps of "
        f"{config.batch_size} windows each; means over all episodes of all seeds with 95 % intervals.\n",
        "## (a) Reward and result\n",
        "| policy | guidance | reward | result | ms per action |",
        "|---|---|---|---|---|",
    ]
    for (name, strength), row in a.items():
        shown = "-" if strength is None else f"{strength:g}"
        lines.append(
            f"| {name} | {shown} | {_shown(row['reward'])} | {_shown(row['result'])} | {1000 * row['seconds']:.1f} |"
        )
    if b:
        lines += ["\n## (b) Result of C-BESO against denoising steps (ms per action)\n", *_grid(config, b)]
    if c:
        lines += [
            "\n## (c) Ways taken without a goal, from one scene\n",
            "| policy | coverage | reward |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {row['coverage']:.2f} | {_shown(row['reward'])} |" for (name,), row in c.items()]
        lines.append(
            "\nCoverage is the entropy of (block first, its square) in units of ln 4: 1 if all four are alike."
        )
    _figure(a, b, folder / "figure.png")
    return reproduction_report.write_report(folder, "BESO on the pushing world", lines, claims(a, b))


def claims(a: dict[tuple, Any], b: dict[tuple, Any]) -> Claims:
    """Each claim whose numbers are there, with the numbers, and whether it holds."""
    found = []
    few, many = b.get(("ddim", 3)), b.get(("ddim", 50))
    if few and many:
        gap = 100 * (many["result"].mean - few["result"].mean)
        found.append((f"3 steps are within 3 points of 50 (ddim): {gap:+.1f} points", abs(gap) <= 3))
    beso = a.get(("C-BESO", None))
    for other in ("GC-BC", "C-BeT"):
        if beso and (row := a.get((other, None))):
            text = f"result of C-BESO {_shown(beso['result'])} above {other} {_shown(row['result'])}, intervals apart"
            found.append((text, beso["result"].low > row["result"].high))
    if free := a.get(("CFG-BESO", 0.0)):
        reward, result = free["reward"].mean, free["result"].mean
        text = f"guidance 0 ignores the goal: reward {reward:.2f}, result {result:.2f} near half of it"
        found.append((text, reward > 0.8 and abs(result - reward / 2) <= 0.1))
    if beso and (ddpm := a.get(("DDPM", None))):
        ratio = ddpm["seconds"] / beso["seconds"]
        found.append(
            (f"3-step BESO is at least 8 times as fast per action as 30-step DDPM: {ratio:.1f} times", ratio >= 8)
        )
    return found


def _by(cells: Cells, table: str, *keys: str) -> dict[tuple, Any]:
    """The cells of a table, those of all seeds together."""
    from eval.reproduce_beso import pooled

    groups: dict[tuple, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["table"] == table:
            groups.setdefault(tuple(cell[key] for key in keys), []).append(cell)
    return {key: pooled(group) for key, group in groups.items()}


def _shown(mean: Mean) -> str:
    return f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]"


def _grid(config: ReproductionConfig, b: dict[tuple, Any]) -> list[str]:
    steps = config.sampler_steps
    lines = ["| sampler | " + " | ".join(map(str, steps)) + " |", "|---" * (len(steps) + 1) + "|"]
    for name in config.samplers:
        rows = [b[name, count] for count in steps]
        parts = [f"{row['result'].mean:.2f} ({1000 * row['seconds']:.0f})" for row in rows]
        lines.append(f"| {name} | " + " | ".join(parts) + " |")
    return lines


def _figure(a: dict[tuple, Any], b: dict[tuple, Any], file: Path) -> None:
    """Left: result and reward over guidance, the other policies as lines. Right: result over denoising steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    swept = sorted((strength, row) for (_, strength), row in a.items() if strength is not None)
    for name in ("reward", "result"):
        if swept:
            left.plot([s for s, _ in swept], [row[name].mean for _, row in swept], "o-", label=f"CFG-BESO {name}")
    for number, ((policy, strength), row) in enumerate(a.items()):
        if strength is None:
            left.axhline(row["result"].mean, color=f"C{number + 2}", linestyle="--", label=f"{policy} result")
    left.set(xlabel="guidance", ylim=(0, 1.02), title="pushing world")
    left.legend(fontsize=7)
    for sampler in dict.fromkeys(name for name, _ in b):
        points = sorted((steps, row["result"].mean) for (name, steps), row in b.items() if name == sampler)
        right.plot(*zip(*points, strict=True), "o-", markersize=3, label=sampler)
    right.set(xlabel="denoising steps", ylabel="result", ylim=(0, 1.02), xscale="log", title="C-BESO")
    if b:
        right.legend(fontsize=7)
    figure.savefig(file, dpi=130)
