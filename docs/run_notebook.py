"""Runs the cells of a notebook in one namespace and keeps what they print and plot, as Jupyter does.

    python docs/run_notebook.py docs/python.ipynb FOLDER

FOLDER is where it runs, with what it reads; its first cell says what that is. Needs nothing beyond ctsynth.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

Output = dict[str, Any]


def run(notebook: Path, folder: Path) -> dict[str, Any]:
    """The notebook with the outputs of a run in that folder; the file stays as it is."""
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate((one for one in content["cells"] if one["cell_type"] == "code"), 1):
            cell["execution_count"] = number
            cell["outputs"] = _outputs("".join(cell["source"]), namespace, f"cell {number}")
    return content


def _outputs(source: str, namespace: dict[str, Any], name: str) -> list[Output]:
    outputs: list[Output] = []
    printed = io.StringIO()

    def show(*_: object, **__: object) -> None:
        _flush(printed, outputs)
        picture = io.BytesIO()
        plt.gcf().savefig(picture, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
        plt.close("all")
        data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})

    plt.show = show
    with contextlib.redirect_stdout(printed):
        exec(compile(source, name, "exec"), namespace)
    _flush(printed, outputs)
    return outputs


def _flush(printed: io.StringIO, outputs: list[Output]) -> None:
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
        printed.seek(0)
        printed.truncate()


if __name__ == "__main__":
    path, where = map(Path, sys.argv[1:])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    path.write_text(json.dumps(run(path, where), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
