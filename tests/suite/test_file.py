"""What the file of a suite may say, and what is said of a slip in it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from recgym.agent import load_agent
from recgym.cli import run
from recgym.errors import RecGymError, UnknownName
from recgym.suite import file
from recgym.suite.file import read_suite
from recgym.suite.grid import Grid
from tests.sentences import said
from tests.suite.conftest import GUESS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [pytest.param("crr", marks=pytest.mark.d3rlpy), "lea", "shop"])
def test_the_suites_that_come_along_say_what_they_show(name):
    suite = read_suite(ROOT / "examples" / f"{name}.toml")
    assert suite.shows and f'"{suite.shows[0]}"' in suite.file.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sedes = [1]\n" + GUESS, "key of the suite is named 'sedes'. Did you mean 'seeds'"),
        (GUESS + "agnet = 1\n", "key of the row 'guess' is named 'agnet'. Did you mean 'agent'"),
        (GUESS.replace("tiny:Guess", "markow"), "No agent is named 'markow'. Did you mean 'markov"),
        (GUESS + "options = { nose = 1 }\n", "option of Guess is named 'nose'. Did you mean 'noi"),
        (GUESS + 'benchmarks = ["tiny:SHOPS"]\n', "no attribute 'SHOPS'"),
        (GUESS + 'benchmarks = ["retailrocket-v"]\n', "Did you mean 'retailrocket-v0'"),
        (GUESS + "benchmarks = []\n", "'benchmarks' of the row 'guess' is a list of one name"),
        ('simulators = { "tiny:SHO" = "x" }\n' + GUESS, "Did you mean 'tiny:SHOP'"),
        ('simulators = { "tiny:SHOP" = 1 }\n' + GUESS, "'tiny:SHOP' of simulators of the suite is"),
        ('seeds-of = { "tiny:SHO" = [1] }\n' + GUESS, "Did you mean 'tiny:SHOP'"),
        (GUESS + '[[claims]]\nsays = "x"\nrow = "guess"\nabove = "guest"\n', "add that comparison"),
        (GUESS + "seeds = []\n", "'seeds' of the row 'guess' is a list of one whole number"),
        (GUESS + 'seeds = ["a"]\n', "is a list of one whole number or more"),
        (GUESS + GUESS, "Two rows are named 'guess'"),
        (GUESS.replace('"guess"', '"A b"'), "'A b' cannot name a row"),
        (GUESS.replace('"guess"', '"popular"'), "the name of another agent, recgym.agents."),
        (GUESS + "tune = true\n", "[tune] lists nothing to try"),
        (GUESS + "tune = 1\n", "'tune' of the row 'guess' is true or false"),
        (GUESS + "[tune]\nnoise = 1\n", "a list of what is tried"),
        (GUESS + "tune = true\n[tune]\nnose = [1]\n", "Did you mean 'noise'"),
        (GUESS + "tune = true\noptions.noise = 1\n[tune]\nnoise = [1]\n", "fixes 'noise'"),
        (GUESS + 'tuned-as = "guest"\n[tune]\nnoise = [1]\n', "Did you mean 'guess'"),
        (GUESS + 'tuned-as = "guess"\ntune = true\n[tune]\nnoise = [1]\n', "also tuned as another"),
        (GUESS + 'tuned-as = "other"\n[[rows]]\nname = "other"\nagent = "random"\n',
         "'other', which is not tuned"),
        (GUESS + "options = { noise = 2026-01-01 }\n", "numbers, texts and lists"),
        (GUESS + "options = { noise = nan }\n", "numbers, texts and lists"),
        (GUESS + '[[comparisons]]\nrow = "gues"\n', "No row is named 'gues'"),
        (GUESS + '[[comparisons]]\nrow = "guess"\nagainst = { x = ["vsknnn"] }\n', "'vsknnn'"),
        (GUESS + '[[comparisons]]\nrow = "guess"\nagainst = { x = [] }\n', "one name or more"),
        (GUESS + '[[comparisons]]\nrow = "guess"\nsame-start = 1\n', "true or false"),
        (GUESS + "vary = { nose = [1] }\n", "Did you mean 'noise'"),
        (GUESS + "vary = { noise = [1, 1] }\n", "Two rows are named 'guess-noise-1"),
        (GUESS + "vary = { noise = 1 }\n", "is a list of values for one option or two"),
        (GUESS + "vary = {}\n", "varies nothing"),
        (GUESS + 'beside = ["guess"]\n', "varies nothing"),
        (GUESS + 'vary = { noise = [1] }\nbeside = ["guest"]\n', "No row is named 'guest'"),
        ("users = 1\n" + GUESS, "no TOML"),
        ("", "has no [[rows]]"),
        ("rows = [1]\n", "is a table"),
        ("rows = 1\n", "'rows' of the suite is a list"),
        ("[rows", "no TOML"),
    ],
)  # fmt: skip
def test_a_slip_in_a_suite_is_a_sentence_before_anything_runs(tiny, text, words):
    with pytest.raises(RecGymError) as problem:
        tiny.suite(text)
    assert words in said(problem)
    assert tiny.fitted() == []


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        ("oracle-static-mixd-v0", "Did you mean 'oracle-static-mixed-v0'"),
        ("tiny:NONE", "cannot be loaded"),
        ("tiny:Guess", "no benchmark"),
    ],
)
def test_a_benchmark_that_is_none_is_named(tiny, benchmark, words):
    with pytest.raises(RecGymError) as problem:
        tiny.suite(GUESS, [benchmark])
    assert words in said(problem)


def test_a_suite_that_is_not_there_and_words_that_fit_nothing_are_said(tiny):
    with pytest.raises(RecGymError) as problem:
        read_suite(tiny.folder / "none.toml")
    assert "cannot be read" in said(problem)
    tiny.suite(GUESS)
    with pytest.raises(UnknownName) as problem:
        run(["run", "--suite", str(tiny.file), "--only", "gess"])
    assert "Did you mean 'guess'" in said(problem)
    for words in (["--processes", "0"], ["--minutes", "-1"]):
        with pytest.raises(RecGymError) as problem:
            run(["run", "--suite", str(tiny.file), *words])
        said(problem)


@pytest.mark.parametrize(
    ("words", "rows", "benchmarks"),
    [
        ([], ["guess", "guess-more", "other"], ["tiny:SHOP", "tiny:USERS"]),
        (["guess"], ["guess"], ["tiny:SHOP", "tiny:USERS"]),
        (["gues"], ["guess", "guess-more"], ["tiny:SHOP", "tiny:USERS"]),
        (["guess", "oth", "USERS"], ["guess", "other"], ["tiny:USERS"]),
        (["tiny:SHOP"], ["guess", "guess-more", "other"], ["tiny:SHOP"]),
    ],
)
def test_a_word_is_a_name_or_a_part_of_several(tiny, words, rows, benchmarks):
    more = "".join(f'[[rows]]\nname = "{name}"\nagent = "tiny:Guess"\n'
                   for name in ("guess-more", "other"))  # fmt: skip
    grid = Grid(tiny.suite(GUESS + more, ["tiny:SHOP", "tiny:USERS"]), words)
    assert [row.name for row in grid.rows] == rows and grid.benchmarks == benchmarks


def test_seeds_are_those_of_the_row_then_of_the_benchmark_then_of_all(tiny):
    found = tiny.suite(
        'seeds = [0, 1]\n[seeds-of]\n"tiny:USERS" = [0, 1, 2]\n' + GUESS
        + '[[rows]]\nname = "one"\nagent = "tiny:Guess"\nseeds = [7]\n'
        + '[[rows]]\nname = "more"\nagent = "tiny:Guess"\nseeds = [7]\n'
        + 'seeds-of = { "tiny:USERS" = [8, 9] }\n'
        + '[[rows]]\nname = "sure"\nagent = "tiny:Sure"\n',
        ["tiny:SHOP", "tiny:USERS"],
    )  # fmt: skip
    seeds = {name: list(row.seeds.values()) for name, row in found.rows.items()}
    assert seeds == {
        "guess": [(0, 1), (0, 1, 2)], "one": [(7,), (7,)], "more": [(7,), (8, 9)],
        "sure": [(0,), (0,)],
    }  # fmt: skip


def test_a_row_is_asked_where_it_says_and_else_where_the_suite_says(tiny):
    more = GUESS.replace('"guess"', '"more"') + 'benchmarks = ["tiny:USERS", "tiny:SHOP"]\n'
    found = tiny.suite(more + GUESS, ["tiny:MASKED"])
    assert [*found.benchmarks] == ["tiny:MASKED", "tiny:USERS", "tiny:SHOP"]
    assert found.rows["more"].benchmarks == ("tiny:USERS", "tiny:SHOP")
    assert found.rows["guess"].benchmarks == ("tiny:MASKED",)


def test_options_are_given_to_all_agents_that_have_them_and_a_row_has_the_last_word(tiny):
    found = tiny.suite('''
        options = { noise = 0.25, steps = 5 }
        options-of = { "tiny:SHOP" = { noise = 0.5 } }
        [[rows]]
        name = "one"
        agent = "tiny:Guess"
        [[rows]]
        name = "two"
        agent = "tiny:Guess"
        options = { noise = 0.75 }
        options-of = { "tiny:SHOP" = { ranks = -1 } }
        [[rows]]
        name = "popular"
    ''', ("tiny:SHOP", "tiny:MASKED"))  # fmt: skip
    given = {
        (row.name, name): row.options[name]
        for row in found.rows.values() for name in found.benchmarks
    }  # fmt: skip
    assert given == {
        ("one", "tiny:SHOP"): {"noise": 0.5},
        ("one", "tiny:MASKED"): {"noise": 0.25},
        ("two", "tiny:SHOP"): {"noise": 0.75, "ranks": -1},
        ("two", "tiny:MASKED"): {"noise": 0.75},
        ("popular", "tiny:SHOP"): {},
        ("popular", "tiny:MASKED"): {},
    }


def test_the_grid_of_the_project_is_sound():
    found = read_suite(ROOT / "examples" / "grid.toml")
    assert len(found.benchmarks) == 7 and len(found.candidates) == 2
    for row in found.rows.values():
        assert isinstance(load_agent(row.agent), type)
    twins = [row for row in found.rows.values()
             if row.options["movielens-small-v0"].get("discount") == 0]  # fmt: skip
    assert len(twins) == 3 and all(row.tuned_as in found.rows for row in twins)
    assert {len(row.seeds["oracle-boredom-mixed-v0"]) for row in twins} == {5}
    assert {len(row.seeds["movielens-small-v0"]) for row in twins} == {1}
    for comparison in found.comparisons:
        assert comparison.against


@pytest.mark.d3rlpy
def test_the_baselines_of_the_project_are_sound():
    found = read_suite(ROOT / "examples" / "baselines.toml")
    assert len(found.benchmarks) == 20
    assert {"vsknn", "greedy", "d3rlpy-cql", "sb3-ppo"} < found.rows.keys()
    steps = found.rows["d3rlpy-cql"].options
    assert steps["yoochoose-sample-v0"] == {"steps": 1000}
    assert steps["retailrocket-sample-v0"] == {"steps": 100}


def test_the_variants_of_lea_are_sound():
    found = read_suite(ROOT / "examples" / "lea.toml")
    assert found.simulators.keys() < found.benchmarks.keys()
    grid = Grid(found)
    (step,) = [step for step in grid.steps() if step.row == "sa2c-leasr" and step.kind == "seed"
               and step.benchmark == "movielens-small-v0" and step.seeds == (0,)]  # fmt: skip
    assert grid.simulator(step) == "movielens-small-recgym-small"
    assert grid.simulator(replace(step, kind="tuning")) == ""
    assert grid.simulator(replace(step, benchmark="oracle-boredom-mixed-v0")) == ""


def test_a_sweep_is_a_row_for_each_point(tiny):
    suite = tiny.suite(
        GUESS + "options = { ranks = -1 }\nvary = { noise = [0.5, 2.0], ranks = [1, 2] }\n"
        'beside = ["other"]\n[[rows]]\nname = "other"\nagent = "tiny:Guess"\n'
    )
    found = {name: row.options["tiny:SHOP"] for name, row in suite.rows.items()}
    assert found == {
        "guess-noise-0-5-ranks-1": {"noise": 0.5, "ranks": 1},
        "guess-noise-0-5-ranks-2": {"noise": 0.5, "ranks": 2},
        "guess-noise-2-0-ranks-1": {"noise": 2.0, "ranks": 1},
        "guess-noise-2-0-ranks-2": {"noise": 2.0, "ranks": 2},
        "other": {},
    }
    *points, other = suite.rows.values()
    assert all(row.sweep == "guess" and row.beside == ("other",) for row in points)
    assert [row.varied["ranks"] for row in points] == [1, 2, 1, 2]
    assert other.sweep == "" and not other.varied


def test_the_page_on_suites_shows_one_that_is_read_and_names_all_keys(tmp_path):
    page = (Path(file.__file__).with_name("README.md")).read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "ours.toml").write_text(shown)
    suite = read_suite(tmp_path / "ours.toml")
    assert {row.sweep for row in suite.rows.values()} == {"", "by-discount"}
    (table,) = re.findall(r"^\| key \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    named = set(re.findall("`([a-z-]+)`", " ".join(
        line.split("|")[1] for line in table.splitlines()[2:] if line)))  # fmt: skip
    of_parts = {"row", "against", "same-start", "says", "above"}
    assert named == file._SUITE - {"rows", "comparisons", "claims"} | file._ROW | of_parts
