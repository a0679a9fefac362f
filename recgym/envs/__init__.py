"""The ids of the environments, and the commands that build the logs of those that need one."""

import gymnasium

# data -> the name of the log, and what builds it out of what its publisher distributes
REPLAYS = {
    "Demo": ("demo", "demo"),
    "MovieLens25M": ("movielens-25m", "movielens --raw ml-25m.zip"),
    "MovieLens20M": ("movielens-20m", "movielens --raw ml-20m.zip"),
    "MovieLens1M": ("movielens-1m", "movielens --raw ml-1m.zip"),
    "MovieLens100K": ("movielens-100k", "movielens --raw ml-100k.zip"),
    "MovieLensSmall": ("movielens-small", "movielens --raw ml-latest-small.zip"),
    "Yoochoose": ("yoochoose", "yoochoose --raw yoochoose-data.zip"),
    "RetailRocket": ("retailrocket", "retailrocket --raw archive.zip"),
    "LFM1b": ("lfm-1b", "lastfm --raw LFM-1b"),
    "LastFM1K": ("lastfm-1k", "lastfm --raw lastfm-dataset-1K"),
    "AmazonIndustrial": (
        "amazon-industrial",
        "amazon --raw amazon --category Industrial_and_Scientific",
    ),
    "OpenBanditRandom": (
        "openbandit-random",
        "openbandit --raw open_bandit_dataset.zip --policy random",
    ),
    "OpenBanditBTS": ("openbandit-bts", "openbandit --raw open_bandit_dataset.zip --policy bts"),
}
# what each world of oracle users asks of an agent, and how it differs from the first
ORACLES: dict[str, tuple[str, dict[str, object]]] = {
    "OracleStatic": ("Can it tell what a user likes? Planning does not matter.", {}),
    "OracleBoredom": ("Does it space a topic, of which too much bores?", {"boring": 3}),
    "OracleDrift": (
        "Does it lead tastes, which follow consumption, to what lasts?",
        {"drift": 0.2},
    ),
}
# data -> the simulator of that name, and the dataset that it is fitted to
SIMULATED = {data: (log, f"recgym/{log}/logged-v0") for data, (log, _) in REPLAYS.items()} | {
    "OracleStatic": ("oracle-static-mixed", "recgym/oracle-static/mixed-v0"),
    "OracleBoredom": ("oracle-boredom-mixed", "recgym/oracle-boredom/mixed-v0"),
    "OracleDrift": ("oracle-drift-mixed", "recgym/oracle-drift/mixed-v0"),
}

# text shops: the embedded ones, and those of WebShop's files, whose folder is given as files=…
SHOPS: dict[str, dict[str, object]] = {
    "MiniShop": {"shop": "minishop"},
    "MiniShopB": {"shop": "minishop-b"},
    "WebShop": {"shop": "webshop"},
    "WebShop1k": {"shop": "webshop-1k"},
}


def _register(name: str, module: str, classes: str, **kwargs: object) -> None:
    gymnasium.register(
        f"recgym/{name}-v0",
        entry_point=f"recgym.envs.{module}:{classes}Env",
        vector_entry_point=f"recgym.envs.{module}:{classes}VectorEnv",
        kwargs=kwargs,
        order_enforce=False,  # ours says in one sentence what a step outside an episode is
        disable_env_checker=True,  # `recgym check` and the tests do more, and not in every step
    )


_register("Replay", "replay", "Replay")
for data, (log, words) in REPLAYS.items():
    command = f"recgym data build {words} --name {log}"
    _register(f"{data}Replay", "replay", "Replay", log=log, build=command)
for name, (_, parameters) in ORACLES.items():
    _register(name, "oracle", "Oracle", **parameters)
_register("LLM", "simulator", "Simulator")
for data, (name, _) in SIMULATED.items():
    _register(f"{data}LLM", "simulator", "Simulator", simulator=f"{name}-recgym-small")
for name, kwargs in SHOPS.items():
    _register(name, "shop", "Shop", **kwargs)
