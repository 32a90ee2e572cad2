"""Who may know whom: a module imports its own package and lower layers, and heavy things load where needed."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ctsynth

PACKAGE = Path(ctsynth.__file__).parent
DOCS = PACKAGE.parent / "docs"

LAYERS = (
    {"compat", "errors"},
    {"files", "outputs", "device", "plugins", "shards", "stop", "randomness"},
    {"label_class", "schema", "tissues"},
    {"labels", "config", "weights", "trainable", "history", "scoring.result"},
    {"figures", "label_files", "scoring.scores"},
    {"data", "features", "measures", "networks", "scoring.records"},
    {"diffusion", "phantom"},
    {"methods", "segmenters"},
    {"training"},
    {"sampling", "segmentation"},
    {"metrics"},
    {"scoring"},
    {"reporting"},
    {"augment"},
    {"api", "sharing"},
    {"cli"},
)
"""The one table of the layers; docs/architecture.md shows it. ``__init__`` is below all, ``__main__`` above.

A module with an entry of its own, ``scoring.scores``, is lower than its package.
"""

LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]


def entry(module: str) -> str:
    """Which entry of the table a dotted name below ``ctsynth`` belongs to."""
    names = module.split(".")
    own = ".".join(names[:2])
    return own if own in LAYER else names[0]


def part(path: Path) -> str:
    """Which entry of the table a file belongs to."""
    return entry(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


def imports(path: Path) -> set[str]:
    """All modules that a file imports, wherever in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def attributes(path: Path) -> list[ast.Attribute]:
    """All ``a.b`` in a file."""
    return [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)
    ]


def own_imports(path: Path) -> set[str]:
    """The entries of the table that a file imports from."""
    names = {entry(name.removeprefix("ctsynth.")) for name in imports(path) if name.startswith("ctsynth.")}
    return names - {"__version__"}


def test_every_module_has_its_layer():
    assert {part(path) for path in MODULES} == set(LAYER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_its_own_package_and_lower_layers_only(path):
    own = part(path)
    upward = {name for name in own_imports(path) - {own} if LAYER[name] >= LAYER[own]}
    assert not upward, f"{own} is layer {LAYER[own]}"


def test_no_modules_import_one_another():
    graph = {path: set() for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"}
    for path, needs in graph.items():
        for name in imports(path):
            parts = name.split(".")[1:] if name.startswith("ctsynth.") else []
            below = [PACKAGE.joinpath(*parts[:length]) for length in range(len(parts), 0, -1)]
            files = [file for place in below for file in (place.with_suffix(".py"), place / "__init__.py")]
            needs |= {next((file for file in files if file in graph), path)} - {path}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names a circle


def test_the_docs_show_this_table():
    rows = [f"{number:>2}  {' '.join(sorted(names))}" for number, names in enumerate(LAYERS)]
    assert "\n".join(rows) in (DOCS / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("methods", {"data", "files"}),
        ("segmenters", {"data", "files"}),
        ("networks", {"data", "files", "config"}),
        ("diffusion", {"data", "files", "config"}),
    ],
)
def test_no_model_sees_a_file(package, forbidden):
    for path in (PACKAGE / package).glob("*.py"):
        assert not own_imports(path) & forbidden, path.name


def test_training_knows_no_method_and_no_network_by_name():
    for path in (PACKAGE / "training").glob("*.py"):
        assert "networks" not in own_imports(path)
        packages = ("ctsynth.methods.", "ctsynth.segmenters.")
        assert not {n for n in imports(path) if n.startswith(packages) and ".base" not in n}, path.name


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("ctsynth.cli.app", "torch numpy scipy nibabel matplotlib"),
        ("ctsynth.reporting.page ctsynth.reporting.tables", "torch"),
        ("ctsynth.data.preprocess ctsynth.phantom ctsynth.sampling.record", "torch"),
        ("ctsynth.scoring.run ctsynth.metrics.ssim", "torch"),
    ],
)
def test_importing_these_never_loads(modules, absent):
    code = f"import sys, {', '.join(modules.split())}; print(*sorted(set({absent.split()!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) != "compat"], ids=lambda path: path.stem)
def test_private_names_of_torch_are_in_one_module(path):
    assert not [name for name in imports(path) if name.startswith("torch.") and "._" in name]
    used = {f"{node.value.id}.{node.attr}" for node in attributes(path) if isinstance(node.value, ast.Name)}
    assert not [name for name in used if re.match(r"torch\._(?!_)", name)]


def test_only_the_command_line_prints_or_exits():
    for path in MODULES:
        if part(path) != "cli":
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            called = {ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)}
            assert not called & {"print", "exit", "quit", "sys.exit"}, path.name


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) != "cli"], ids=lambda path: path.stem)
def test_an_error_names_a_setting_in_backticks_and_no_option(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    texts = [str(text.value) for error in raised for text in ast.walk(error) if isinstance(text, ast.Constant)]
    named = [text for text in texts if re.search(r"(?<!\w)--[a-z]", text)]
    assert not [text for text in named if not re.search(r"\bctsynth |sbatch ", text)]  # commands in full


def test_no_two_test_files_have_the_same_name():
    """Pytest imports them by it, and of two it collects one."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(set(names)) == len(names)
