"""Whether the tests notice small mistakes in the arithmetic: ``python -m tests.mutation``, from the root.

Every operator, comparison, constant and call of the modules of ``targets.py`` is changed by itself, and the tests
of that module are run until one fails. What survives is named; exit code 1 if it is not known to be equivalent.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from .targets import EQUIVALENT, TARGETS
from .trial import Outcome, trial


def main() -> int:
    """Mutates what is asked for and tells of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="MODULE", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the changes of each module")
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    parser.add_argument("--workers", type=int, default=1, help="modules at a time")
    asked = parser.parse_args()
    modules = asked.only or list(TARGETS)
    total = Counter[str]()
    spawn = get_context("spawn")  # pytest collects once a process
    with ProcessPoolExecutor(asked.workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        found = pool.map(partial(trial, share=asked.share, seed=asked.seed), modules)
        for module, outcomes in zip(modules, found, strict=True):
            total += _tell(module, outcomes)
    print(_line("all", total))
    return int(total["survived"] > 0)


def _tell(module: str, outcomes: list[Outcome]) -> Counter[str]:
    left = [outcome for outcome in outcomes if outcome.killer is None]
    new = [outcome for outcome in left if outcome.name not in EQUIVALENT.get(module, {})]
    counts = Counter(
        changes=len(outcomes), killed=len(outcomes) - len(left), equivalent=len(left) - len(new), survived=len(new)
    )
    print(_line(module, counts))
    for outcome in new:
        print(f"  line {outcome.line}, {outcome.tests} tests: {outcome.name}", flush=True)
    return counts


def _line(name: str, counts: Counter[str]) -> str:
    share = counts["killed"] / max(1, counts["changes"] - counts["equivalent"])
    columns = "".join(f"{counts[kind]:>6} {kind}" for kind in ("changes", "killed", "equivalent", "survived"))
    return f"{name:<28}{columns}  {share:.1%}"


if __name__ == "__main__":
    sys.exit(main())
