"""The benchmarks: what agents learn from, what they are asked, and which number ranks them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from recgym.envs import ORACLES, REPLAYS
from recgym.envs.frozen import frozen as oracle_facts
from recgym.envs.policies import TIERS
from recgym.errors import UnknownName
from recgym.rollouts import POLICIES

Primary = Literal["return", "ndcg@10", "snips", "score"]
FILE = Path(__file__).with_name("benchmarks.json")


@dataclass(frozen=True)
class Benchmark:
    """A named question with one answer for each agent; a change of any part is another version."""

    name: str
    dataset: str  # the Minari dataset that agents learn from; its validation and test sets follow
    primary: Primary  # the metric that ranks the agents
    shows: str  # what it can show
    hides: str  # what it cannot
    build: str  # the command that makes its data
    log: str = ""  # the log whose test events are ranked; without one, those of the test dataset
    env: str = ""  # the environment that answers, where there is one
    made_in: str = ""  # the shop where its data are made when they are needed; else they must exist
    mask_seen: bool = False  # are items that the user knows already taken out of the ranking?
    baseline: str = "popular"  # the agent that all others are compared with

    @property
    def shop(self) -> bool:
        """Are agents asked to shop, for each goal of a split, and for nothing else?"""
        return self.primary == "score"

    @property
    def oracle(self) -> bool:
        """Do oracle users answer?"""
        return bool(self.env) and not self.shop

    def sha256(self, split: str = "train") -> str | None:
        """The frozen hash of the data of a split; None where nobody has measured it."""
        if self.name not in BENCHMARKS:  # a benchmark of somebody's own
            return None
        if self.shop:
            return facts().get(self.name, {}).get(split)  # type: ignore[no-any-return]
        if self.oracle:
            tier = self.dataset.rpartition("/")[2].removesuffix("-v0")
            return str(oracle_facts()[self.env]["logs"][f"{tier} {split}"])
        known = facts().get(self.name, {}).get("sha256")
        return str(known) if known and split == "train" else None

    @property
    def digest(self) -> str | None:
        """The frozen digest of the log, of all its splits."""
        return facts().get(self.name, {}).get("digest")  # type: ignore[no-any-return]

    @property
    def goals(self) -> int | None:
        """How many goals the test split of a shop has; None where nobody has counted them."""
        return facts().get(self.name, {}).get("goals")  # type: ignore[no-any-return]

    @property
    def anchors(self) -> tuple[float, float] | None:
        """What 0 and 100 are on the normalised scale: random or nothing, and the reference."""
        if self.shop:
            return 0.0, 1.0
        if self.oracle:
            scores = oracle_facts()[self.env]["scores"]
            return scores["random"]["mean"], scores["planner"]["mean"]
        known = facts().get(self.name, {})
        return (known["random"], known["reference"]) if "reference" in known else None

    @property
    def reference(self) -> str:
        """What is 100 on the normalised scale."""
        return "oracle" if self.shop else "planner" if self.oracle else self.baseline

    def of(self, split: str) -> str:
        """The id of the dataset of a split."""
        return self.dataset if split == "train" else self.dataset.replace("-v0", f"-{split}-v0")


@cache
def facts() -> dict[str, Any]:
    """What was measured of the benchmarks on logs and in shops once, and must never change."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of that name."""
    if name not in BENCHMARKS:
        raise UnknownName("benchmark", name, BENCHMARKS, "`recgym benchmarks` lists them.")
    return BENCHMARKS[name]


def _oracles() -> Iterator[Benchmark]:
    for name, (question, _) in ORACLES.items():
        data = "oracle-" + name.removeprefix("Oracle").lower()
        env = f"recgym/{name}-v0"
        for tier in POLICIES:
            hides = "Users are invented: nothing is shown of how real ones behave."
            if tier in TIERS and TIERS[tier].sees:
                hides += " The log is confounded: its policy saw what agents do not."
            yield Benchmark(
                f"{data}-{tier}-v0",
                f"recgym/{data}/{tier}-v0",
                "return",
                f"{question} Learned from {_LOGS[tier]}.",
                hides,
                f"recgym data collect {env} --policies {tier}",
                env=env,
            )


_LOGS = {
    "random": "items shown evenly",
    "medium": "the log of a fair policy",
    "expert": "the log of a good policy",
    "mixed": "the logs of a random, a fair and a good policy",
    "privileged": "the log of a policy that saw the hidden taste",
}


_SNAPSHOT = (
    "The snapshot changes without notice, and GroupLens asks not to publish results on it: rows "
    "compare agents here and nowhere else."
)


def _replays() -> Iterator[Benchmark]:
    yield _replay(
        "movielens-small",
        "What a user of a film site rates 4 or better next, in time order.",
        "Ratings of one sitting have no true order; 522 users are too few to tell close agents "
        f"apart; what is rated is not what was recommended. {_SNAPSHOT}",
        "movielens --raw ml-latest-small.zip",
        mask_seen=True,
    )
    yield _replay(
        "movielens-small-crr",
        "The same with such films only in the history, as in CRR-Transformer's paper, and the "
        "others as actions that earned nothing.",
        "Ratings of one sitting have no true order; users are too few to tell close agents apart; "
        f"what is rated is not what was recommended. {_SNAPSHOT}",
        "movielens --raw ml-latest-small.zip --protocol crr-movielens",
        mask_seen=True,
    )
    yield _replay(
        "yoochoose-sample",
        "The next click within a visit to a shop, in time order; clicks repeat.",
        "No purchases: the sample of eight days has none, so no claim on rewards can rest on it.",
        "yoochoose --raw yoochoose-sample",
    )
    yield _replay(
        "retailrocket-sample",
        "The next view, cart or purchase of a shop's visitor, in time order.",
        "No repeats: the sample has one row for each visitor and item, so what was seen last is "
        "never right, carts do not follow views, and no claim on purchases or against papers can "
        "rest on it.",
        "retailrocket --raw retailrocket-sample",
    )
    yield _replay(
        "amazon-industrial-sample",
        "The last product that a reviewer rated, given the ones before.",
        "No time order: what others did later is in the training data (leave-last-out), so "
        "popularity and similarity know the future.",
        "table --raw amazon-industrial/interactions.csv --items amazon-industrial/items.csv "
        "--user user --item item --order position --title text --protocol leave-last-out",
    )
    yield _replay(
        "openbandit-random-sample",
        "The click rate of the one item that an agent puts first, from a log of random items "
        "with true propensities.",
        "No histories, and a handful of clicks among 1,000 test impressions: agents can hardly be "
        "told apart; it shows that the estimators run on real propensities.",
        "openbandit --raw open-bandit --policy random",
        primary="snips",
    )
    for log, words, shows in _PAPERS:
        yield _replay(log, shows, "Nothing of the long term: a log answers for its own items only.",
                      words, mask_seen="movielens" in log)  # fmt: skip


# the data sets of the papers, under the papers' protocols and by time
_PAPERS = (
    ("movielens-25m", REPLAYS["MovieLens25M"][1], "The next film that a user rates 4 or better."),
    (
        "movielens-25m-crr",
        "movielens --raw ml-25m.zip --protocol crr-movielens",
        "The same with positive films only in the history, as in CRR-Transformer's paper.",
    ),
    ("yoochoose", REPLAYS["Yoochoose"][1], "The next click or purchase of a visit, in time order."),
    (
        "yoochoose-sqn",
        "yoochoose --raw yoochoose-data.zip --protocol sqn-rc15",
        "The next click or purchase under the random split of SQN, SNQN and SA2C.",
    ),
    (
        "yoochoose-crr",
        "yoochoose --raw yoochoose-data.zip --protocol crr-yoochoose",
        "The next click or purchase as in CRR-Transformer's paper.",
    ),
    (
        "retailrocket",
        REPLAYS["RetailRocket"][1],
        "The next view, cart or purchase of a visitor, in time order.",
    ),
    (
        "retailrocket-sqn",
        "retailrocket --raw archive.zip --protocol sqn-retailrocket",
        "The next view or cart under the random split of SQN, SNQN and SA2C.",
    ),
    (
        "lfm-lea",
        "lastfm --raw LFM-1b --protocol lea-lfm",
        "The next track of a listener, as in LEA's paper.",
    ),
    (
        "industry-lea",
        "amazon --raw amazon --category Industrial_and_Scientific --protocol lea-industry",
        "The next product of a reviewer, as in LEA's paper.",
    ),
)


def _replay(
    log: str,
    shows: str,
    hides: str,
    words: str,
    primary: Primary = "ndcg@10",
    mask_seen: bool = False,
) -> Benchmark:
    return Benchmark(
        f"{log}-v0",
        f"recgym/{log}/logged-v0",
        primary,
        shows,
        hides,
        f"recgym data build {words} --name {log}",
        log=log,
        mask_seen=mask_seen,
        baseline="popular" if primary == "snips" else "vsknn",
    )


def _shops() -> Iterator[Benchmark]:
    taught, collect = (
        "recgym/minishop/scripted-v0",
        "recgym data collect recgym/{} --policies scripted",
    )
    invented = "Products and instructions are invented: nothing is shown of real ones."
    yield _shop(
        "minishop",
        "MiniShop-v0",
        taught,
        "Held-out instructions in the shop whose demonstrations were learned from.",
        f"{invented} Nor of other shops.",
        collect.format("MiniShop-v0"),
        made_in="recgym/MiniShop-v0",
    )
    yield _shop(
        "minishop-b",
        "MiniShopB-v0",
        taught,
        "A shop never trained in: other products, with no word of a name in common.",
        f"{invented} Pages are laid out alike in both shops.",
        collect.format("MiniShop-v0"),
        made_in="recgym/MiniShop-v0",
    )
    yield _shop(
        "webshop1k",
        "WebShop1k-v0",
        "recgym/webshop1k/scripted-v0",
        "Held-out instructions among the 1,000 real products that WebShop distributes.",
        "Instructions are made of products, not written by people; 1,000 products are far from a "
        "shop's millions; pages are WebShop's, not a living site's.",
        collect.format("WebShop1k-v0") + " --files FOLDER",
    )


def _shop(
    name: str, env: str, dataset: str, shows: str, hides: str, build: str, made_in: str = ""
) -> Benchmark:
    return Benchmark(
        f"{name}-v0",
        dataset,
        "score",
        shows,
        hides,
        build,
        env=f"recgym/{env}",
        made_in=made_in,
        baseline="shop-rule",
    )


BENCHMARKS = {one.name: one for one in (*_oracles(), *_replays(), *_shops())}
