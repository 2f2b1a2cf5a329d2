"""What `tongs doctor` says of a machine."""

from __future__ import annotations

import pytest
from rich.console import Console

from eval import doctor
from policies.lmp.sandbox import Sandbox
from policies.lmp.sandbox.walls import HOLDS


def said(capsys: pytest.CaptureFixture[str]) -> str:
    doctor.examine(Console(width=200))
    return capsys.readouterr().out


def test_it_puts_up_the_walls_around_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox({}) as sandbox:
        holding = [name for name, state in sandbox.walls.items() if state == HOLDS]
    (row,) = [line for line in said(capsys).splitlines() if "sandbox" in line]
    assert ", ".join(holding) in row


def test_it_names_a_wall_that_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Sandbox, "walls", property(lambda self: {"limits": HOLDS, "seccomp": "no library"}))
    (row,) = [line for line in said(capsys).splitlines() if "sandbox" in line]
    assert "limits; no seccomp (no library)" in row and row.startswith("–")
