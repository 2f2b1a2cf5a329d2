"""Episodes per second of `tongs eval` with one and with two worker processes, and whether their results agree.

    python benchmarks/scaling.py                  # expert without cameras, and the shipped policy
    python benchmarks/scaling.py --policies expert --episodes 100 --processes 1 2 4

"all" counts from the start of the evaluation, so also loading the policy in every process; "running" counts from the
first finished episode of the slowest start on, which is what a long evaluation tends to. Films are left out. One and
two processes take turns, and the medians are printed, since machines drift.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from eval.evaluation import evaluate
from eval.journal import NAME, Journal
from eval.protocol import EvaluationConfig

EPISODES = {"expert": 60}
OTHERWISE = 24
"""Episodes per evaluation of a learned policy: half a minute on one core."""
