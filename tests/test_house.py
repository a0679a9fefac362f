"""The rules of the house, each held: packaging, import directions, a light core, public names."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium
import pytest

import recgym

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"recgym": ROOT / "recgym", "recgym.agents": ROOT / "agents"}
for part in ("checks", "envs", "evaluation", "leaderboard", "shop", "simulator", "suite"):
    FOLDERS[f"recgym.{part}"] = ROOT / "recgym" / part
FOLDERS["recgym.datasets"] = ROOT / "datasets" / "prepare"
HEAVY = ("pyarrow", "ibis", "duckdb", "pandas", "torch", "transformers", "matplotlib", "pyspark")

# Arrows point down only: what a module or package may import of ours, besides errors.
ALLOWED = {
    "recgym": {
        "recgym.envs",
        "recgym.agent", "recgym.bridges", "recgym.checks", "recgym.evaluation.report",
        "recgym.export", "recgym.frame", "recgym.home", "recgym.log", "recgym.rollouts",
        "recgym.sources",  # these for type checkers
    },
    "recgym.errors": set(),
    "recgym.log": set(),
    "recgym.home": {"recgym.log"},
    "recgym.before": {"recgym.home", "recgym.log"},
    "recgym.runs": {"recgym.before", "recgym.home"},
    "recgym.engine": set(),
    "recgym.raw": set(),
    "recgym.kinds": {"recgym.engine"},
    "recgym.reading": {"recgym.engine", "recgym.kinds"},
    "recgym.protocols": set(),
    "recgym.build": {"recgym.engine", "recgym.log", "recgym.protocols", "recgym"},  # its version
    "recgym.frame": {
        "recgym.build", "recgym.engine", "recgym.home", "recgym.kinds", "recgym.log",
        "recgym.protocols", "recgym.reading",
    },
    "recgym.sources": {
        "recgym.build", "recgym.engine", "recgym.home", "recgym.log", "recgym.protocols",
        "recgym.raw",
    },
    "recgym.envs": {
        "recgym.agent", "recgym.envs.batch", "recgym.envs.catalogue", "recgym.envs.draws",
        "recgym.envs.frozen", "recgym.envs.oracle", "recgym.envs.policies", "recgym.episodes",
        "recgym.home",
        "recgym.log",
        *(f"recgym.simulator.{part}" for part in (
            "cache", "calibration", "catalogue", "moments", "store",
        )),
        *(f"recgym.shop.{part}" for part in ("goals", "pages", "reward", "store")),
    },
    "recgym.cli_shop": {"recgym.envs.shop", "recgym.shop.shoppers"},
    "recgym.episodes": {"recgym.log"},
    "recgym.buffers": {"recgym.episodes"},
    "recgym.minari_format": {"recgym.buffers", "recgym.episodes", "recgym.log"},
    "recgym.export": {"recgym.episodes", "recgym.home", "recgym.log", "recgym.minari_format"},
    "recgym.rollouts": {
        "recgym.envs.batch", "recgym.envs.frozen", "recgym.envs.oracle", "recgym.envs.policies",
        "recgym.episodes", "recgym.export", "recgym.log",
    },
    "recgym.demonstrations": {
        "recgym.envs.batch", "recgym.envs.shop", "recgym.episodes", "recgym.export", "recgym.log",
        "recgym.shop.catalogue", "recgym.shop.shoppers",
    },
    "recgym.bridges": {
        "recgym.d3rl", "recgym.envs.batch", "recgym.export", "recgym.minari_format",
        "recgym.networks", "recgym.sb3",
    },
    "recgym.networks": {"recgym.agent", "recgym.repeats"},
    "recgym.repeats": set(),
    "recgym.published": set(),
    "recgym.d3rl": {"recgym.networks"},
    "recgym.sb3": {"recgym.agent", "recgym.envs.batch", "recgym.networks"},
    "recgym.agent": set(),
    "recgym.checks": {
        "recgym.checks.agents", "recgym.checks.datasets", "recgym.checks.environments",
    },
    "recgym.checks.agents": {
        "recgym.agent", "recgym.checks.faults", "recgym.checks.trials", "recgym.export",
        "recgym.minari_format", "recgym.shop.pages",
    },
    "recgym.checks.trials": {
        "recgym.agent", "recgym.checks.faults", "recgym.demonstrations", "recgym.envs.frozen",
        "recgym.envs.oracle", "recgym.envs.policies", "recgym.episodes", "recgym.export",
        "recgym.minari_format", "recgym.rollouts",
    },
    "recgym.checks.environments": {"recgym.checks.faults"},
    "recgym.checks.datasets": {"recgym.checks.faults", "recgym.export"},
    "recgym.checks.faults": set(),
    "recgym.benchmarks": {
        "recgym.envs", "recgym.envs.frozen", "recgym.envs.policies", "recgym.rollouts",
    },
    "recgym.evaluation.ranking": set(),
    "recgym.evaluation.intervals": set(),
    "recgym.evaluation": {
        "recgym", "recgym.agent", "recgym.before", "recgym.benchmarks", "recgym.demonstrations",
        "recgym.envs.frozen", "recgym.envs.oracle",
        "recgym.episodes", "recgym.evaluation", "recgym.evaluation.closed_loop",
        "recgym.evaluation.intervals", "recgym.evaluation.off_policy",
        "recgym.evaluation.predictions", "recgym.evaluation.ranking",
        "recgym.evaluation.report", "recgym.evaluation.scoring", "recgym.evaluation.shopping",
        "recgym.evaluation.tasks",
        "recgym.export", "recgym.home", "recgym.log", "recgym.minari_format", "recgym.rollouts",
        "recgym.runs", "recgym.simulator.store",
    },
    "recgym.leaderboard": {
        "recgym", "recgym.agent", "recgym.benchmarks", "recgym.envs", "recgym.envs.frozen",
        "recgym.evaluation.closed_loop", "recgym.evaluation.intervals",
        "recgym.evaluation.ranking",
        "recgym.evaluation.predictions", "recgym.evaluation.report", "recgym.evaluation.scoring",
        "recgym.evaluation.shopping",
        "recgym.evaluation.tasks", "recgym.home", "recgym.leaderboard.submission",
        "recgym.leaderboard.verification", "recgym.log", "recgym.pages",
    },
    "recgym.pages": set(),
    "recgym.diagnose": {"recgym.log"},
    "recgym.plots": {"recgym.log"},
    "recgym.curves": {"recgym.plots", "recgym.runs"},
    "recgym.suite": {
        "recgym", "recgym.agent", "recgym.benchmarks", "recgym.evaluation.closed_loop",
        "recgym.evaluation.intervals", "recgym.evaluation.predictions",
        "recgym.evaluation.report", "recgym.evaluation.scoring", "recgym.evaluation.tasks",
        "recgym.home", "recgym.log", "recgym.suite.file", "recgym.suite.grid",
        "recgym.suite.journal", "recgym.suite.step",
    },
    "recgym.suite.page": {"recgym", "recgym.pages", "recgym.suite.picture"},
    "recgym.suite.picture": {"recgym.pages", "recgym.plots"},
    "recgym.checkpoint": set(),
    "recgym.simulator": {
        "recgym", "recgym.agent", "recgym.checkpoint", "recgym.envs.draws",
        "recgym.evaluation.intervals", "recgym.home", "recgym.log", "recgym.minari_format",
        "recgym.networks", "recgym.published",
        *(f"recgym.simulator.{part}" for part in (
            "asked", "cache", "calibration", "catalogue", "feedback", "fit", "language", "measures",
            "moments", "prompts", "rivals", "small", "store", "tokens", "truth",
        )),
    },
    "recgym.simulator.asked": set(),
    "recgym.simulator.cache": {"recgym.envs.draws", "recgym.home", "recgym.simulator.feedback"},
    "recgym.simulator.truth": {
        "recgym.agent", "recgym.envs.oracle", "recgym.envs.policies", "recgym.simulator.feedback",
        "recgym.simulator.measures", "recgym.simulator.moments",
    },
    "recgym.simulator.page": {
        "recgym.home", "recgym.pages", "recgym.simulator.asked", "recgym.simulator.card",
        "recgym.simulator.picture", "recgym.simulator.store",
    },
    "recgym.simulator.picture": {"recgym.plots"},
    "recgym.simulator.export": {
        "recgym.agent", "recgym.episodes", "recgym.export", "recgym.home", "recgym.log",
        "recgym.minari_format", "recgym.simulator.cache", "recgym.simulator.feedback",
        "recgym.simulator.moments", "recgym.simulator.store",
    },
    "recgym.shop": {
        "recgym", "recgym.envs.draws", "recgym.home", "recgym.log",
        *(f"recgym.shop.{part}" for part in (
            "analysis", "assortment", "catalogue", "generated", "goals", "html", "nouns", "pages",
            "reward", "search", "store",
        )),
    },
    "recgym.terminal": set(),
    "recgym.cli_simulator": {
        "recgym.cli_train", "recgym.home", "recgym.log", "recgym.simulator",
        "recgym.simulator.asked", "recgym.simulator.card", "recgym.simulator.export",
        "recgym.simulator.page", "recgym.terminal",
    },
    "recgym.cli": {
        "recgym", "recgym.cli_data", "recgym.cli_envs", "recgym.cli_evaluate",
        "recgym.cli_leaderboard", "recgym.cli_runs", "recgym.cli_simulator", "recgym.cli_train",
        "recgym.log", "recgym.terminal",
    },
    "recgym.cli_train": {
        "recgym", "recgym.agent", "recgym.cli_runs", "recgym.demonstrations", "recgym.envs",
        "recgym.evaluation.report", "recgym.export", "recgym.log", "recgym.minari_format",
        "recgym.rollouts", "recgym.runs", "recgym.terminal",
    },
    "recgym.cli_runs": {"recgym.curves", "recgym.runs", "recgym.terminal"},
    "recgym.cli_suite": {
        "recgym.agent", "recgym.evaluation.intervals", "recgym.evaluation.report",
        "recgym.home", "recgym.leaderboard.submission", "recgym.pages", "recgym.suite.file",
        "recgym.suite.grid", "recgym.suite.page", "recgym.suite.picture", "recgym.suite.results",
        "recgym.suite.runner", "recgym.terminal",
    },
    "recgym.cli_evaluate": {
        "recgym.agent", "recgym.benchmarks", "recgym.evaluation.closed_loop",
        "recgym.evaluation.intervals", "recgym.evaluation.predictions",
        "recgym.evaluation.report", "recgym.evaluation.scoring", "recgym.evaluation.selection",
        "recgym.evaluation.tasks", "recgym.home", "recgym.terminal",
    },
    "recgym.cli_leaderboard": {
        "recgym.benchmarks", "recgym.evaluation.tasks", "recgym.home",
        "recgym.leaderboard.render", "recgym.leaderboard.submission",
        "recgym.leaderboard.verification", "recgym.pages", "recgym.terminal",
    },
    "recgym.cli_data": {
        "recgym.agent", "recgym.demonstrations", "recgym.diagnose", "recgym.engine",
        "recgym.export", "recgym.home", "recgym.log", "recgym.runs",
        "recgym.plots", "recgym.protocols", "recgym.rollouts", "recgym.sources", "recgym.terminal",
    },
    "recgym.cli_envs": {
        "recgym.agent",
        "recgym.checks", "recgym.cli_shop", "recgym.envs", "recgym.envs.batch",
        "recgym.envs.frozen", "recgym.envs.oracle", "recgym.envs.policies", "recgym.envs.replay",
        "recgym.envs.shop", "recgym.export",
        "recgym.home", "recgym.runs", "recgym.terminal",
    },
    "recgym.datasets": {
        "recgym.build", "recgym.engine", "recgym.frame", "recgym.kinds", "recgym.raw",
        "recgym.reading",
    },
    "recgym.agents": {
        "recgym", "recgym.agent", "recgym.before", "recgym.checkpoint", "recgym.home",
        "recgym.log", "recgym.minari_format",
        *(f"recgym.simulator.{part}" for part in (
            "calibration", "export", "feedback", "language", "moments", "rivals", "store",
        )),
        "recgym.shop", "recgym.shop.goals", "recgym.shop.pages", "recgym.shop.preferences",
        "recgym.bridges", "recgym.d3rl", "recgym.episodes", "recgym.evaluation.ranking",
        "recgym.networks", "recgym.published", "recgym.repeats", "recgym.runs", "recgym.sb3",
        # shared by agents; an agent imports another one only where its paper extends it
        *(f"recgym.agents.{shared}" for shared in (
            "batches", "bert", "chooser", "choices", "encoders", "heads", "learner", "loop",
            "proximal", "queries", "reader", "recommender", "validation", "warmup",
            "wordpieces",
        )),
        "recgym.agents.imitation", "recgym.agents.sa2c", "recgym.agents.snqn",
        "recgym.agents.sqn",
    },
}  # fmt: skip


def modules():
    for package, folder in FOLDERS.items():
        for file in sorted(folder.glob("*.py")):
            yield package if file.stem == "__init__" else f"{package}.{file.stem}", file


def our_imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide where things come from"
            names = [node.module]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "recgym")


@pytest.mark.parametrize(("module", "file"), list(modules()), ids=str)
def test_imports_point_down(module, file):
    rule = next(
        (ALLOWED[name] for name in (module, module.rpartition(".")[0]) if name in ALLOWED), None
    )
    assert rule is not None, f"{module} has no rule: add it to ALLOWED and to the design"
    if module in FOLDERS and module not in ("recgym", "recgym.checks"):
        rule = set()
    for imported in our_imports(file):
        assert imported in rule | {"recgym.errors"} or imported == module, (
            f"{module} imports {imported}"
        )


def test_nothing_of_ours_imports_agents_or_sources_by_name():
    for module, file in modules():
        if not module.startswith(("recgym.agents", "recgym.datasets")):
            for imported in our_imports(file):
                assert not imported.startswith(("recgym.agents", "recgym.datasets"))


def test_the_packages_of_pyproject_are_the_folders_with_python_in_them():
    setuptools = SETTINGS["tool"]["setuptools"]
    mapped = {Path(folder): name for name, folder in setuptools["package-dir"].items()}
    found = {
        mapped.get(file.parent.relative_to(ROOT), ".".join(file.parent.relative_to(ROOT).parts))
        for file in ROOT.glob("*/**/__init__.py")
        if not any(
            part.startswith(".") or part in ("build", "tests")
            for part in file.relative_to(ROOT).parts
        )
    }
    assert found == set(setuptools["packages"])


def test_the_datasets_folder_does_not_hide_hugging_faces_datasets():
    assert not (ROOT / "datasets" / "__init__.py").exists()
    script = "import sys, importlib.util as u; s = u.find_spec('datasets'); print(s and s.origin)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert str(ROOT) not in found.stdout


def test_public_names_are_sorted_and_exist():
    assert recgym.__all__ == sorted(recgym.__all__)
    for name in recgym.__all__:
        assert getattr(recgym, name).__module__.startswith("recgym.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        recgym.nothing  # noqa: B018


def test_import_recgym_loads_nothing_heavy():
    script = "import recgym, sys, json; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(found.stdout))
    script = "import gymnasium, minari, sys, json; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ours = loaded - set(json.loads(found.stdout))
    assert ours == {"recgym", "recgym.envs", "minari.dataset._storages"}
    assert not loaded & set(HEAVY)


def test_minari_knows_our_format_by_its_private_registry():
    from minari.dataset import _storages

    storage = _storages.get_minari_storage("recgym")
    assert storage.__module__ == "recgym.minari_format"
    assert "recgym" in _storages.get_storage_keys()


def test_every_error_is_one_of_ours():
    errors = importlib.import_module("recgym.errors")
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    ours = [value for value in classes if value.__module__ == "recgym.errors"]
    assert len(ours) > 5
    assert all(issubclass(value, errors.RecGymError) for value in ours)
    assert issubclass(errors.RecGymError, gymnasium.error.Error)


def test_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert recgym.__version__ == SETTINGS["project"]["version"]
    assert not versions or versions[0] == recgym.__version__ or "[Unreleased]" in changelog
    assert f"version: {recgym.__version__}" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("lock", ["d3rlpy", "newest"])
def test_the_locks_pin_what_the_ranges_allow(lock):
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "lock" / f"{lock}.txt").read_text().split() if line
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    assert (pins["gymnasium"] == "1.0.0") == (lock == "d3rlpy")
    project = SETTINGS["project"]
    wanted = project["dependencies"] + [
        requirement
        for extra, requirements in project["optional-dependencies"].items()
        if lock == "d3rlpy" or extra != "d3rlpy"
        for requirement in requirements
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != "recgym":
            assert pins[requirement.name.lower()] in requirement.specifier, requirement
