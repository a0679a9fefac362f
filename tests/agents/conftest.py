"""What tests of shoppers share, made but once: some sessions, and a BERT that has read a bit."""

import gymnasium
import pytest

from .shops import ENV, odd_ones


@pytest.fixture(scope="session")
def shopping(tmp_path_factory):
    """Sessions for training and for validation, and the environment that they are of."""
    from recgym.demonstrations import demonstrate

    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECGYM_HOME", "MINARI_DATASETS_PATH"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        train, validation = (
            demonstrate(ENV, "scripted", split, sessions=count, name="tiny")
            for split, count in (("train", 20), ("validation", 6))
        )
        return train, validation, gymnasium.make(ENV)


@pytest.fixture(scope="session")
def odd(tmp_path_factory, shopping):
    """Sessions of somebody who does whatever a shop takes, and what it does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("odd")))
        return odd_ones(patch)


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory, shopping):
    """The folder of a BERT that has read some products."""
    from recgym.agents.bert import make_small_bert
    from recgym.agents.wordpieces import texts_of

    products = shopping[2].unwrapped.shoppers.shopping.shop.catalogue.products
    folder = tmp_path_factory.mktemp("readers") / "bert"
    return str(make_small_bert(texts_of(products)[:60], folder, steps=5))
