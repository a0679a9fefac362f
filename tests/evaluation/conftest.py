"""Benchmarks small enough for tests: an invented shop's log, and a hundred oracle users."""

import shutil

import pytest

import recgym
from recgym.benchmarks import Benchmark

ABOUT = {"shows": "that tests pass", "hides": "all else"}
SHOP = Benchmark("shop-v0", "recgym/demo/logged-v0", "ndcg@10", build="", log="demo", **ABOUT)
MASKED = Benchmark(
    "masked-v0", "recgym/demo/logged-v0", "ndcg@10", build="", log="demo", mask_seen=True, **ABOUT
)
USERS = Benchmark(
    "users-v0",
    "recgym/users/mixed-v0",
    "return",
    build="",
    env="recgym/OracleBoredom-v0",
    **ABOUT,
)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Homes in which the data of the small benchmarks are."""
    with pytest.MonkeyPatch.context() as patch:
        homes = {name: tmp_path_factory.mktemp(name.lower()) for name in HOMES}
        for name, folder in homes.items():
            patch.setenv(name, str(folder))
        recgym.prepare("demo", name="demo")
        for split, sessions in (("train", 120), ("validation", 40), ("test", 40)):
            recgym.to_minari("demo", split)
            recgym.collect(USERS.env, "mixed", split, sessions=sessions, name="users")
    return homes


HOMES = ("RECGYM_HOME", "MINARI_DATASETS_PATH")


@pytest.fixture
def small(made_once, tmp_path, monkeypatch):
    """The same as a copy of the test's own."""
    for name, folder in made_once.items():
        own = tmp_path / folder.name
        shutil.copytree(folder, own)
        monkeypatch.setenv(name, str(own))
