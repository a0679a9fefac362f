"""Fill the rendered blocks of cards and READMEs: python datasets/render.py [--check].

Counts come from the manifests in cards/counts, named <source>[--variant].json: copies of the
manifest.json of a built log, whose own hash is checked here. Scores of the oracle come from what
`python datasets/oracle.py` wrote, those of shops from `python datasets/shops.py`, what is said of
simulators from their cards, and how much memory trainings take from `speed/training.py --peaks`.
Nothing in a block is typed.
"""

import difflib
import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

from recgym.envs import ORACLES, REPLAYS, SHOPS
from recgym.envs.frozen import frozen
from recgym.envs.oracle import Oracle
from recgym.envs.policies import reference_policies
from recgym.log import SPLITS, Manifest
from recgym.shop.store import FROZEN
from recgym.sources import load_source, source_names

HERE = Path(__file__).parent
ENVS = HERE.parent / "recgym" / "envs" / "README.md"
SHOP = HERE.parent / "recgym" / "shop" / "README.md"
SIMULATORS = HERE.parent / "recgym" / "simulator"
PEAKS = HERE.parent / "speed" / "peaks.json"
CARDS, COUNTS = HERE / "cards", HERE / "cards" / "counts"


def main(words: Sequence[str]) -> int:
    """Write what is stale, or with --check say what it is and return 1."""
    if words not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = {file: text for file, text in rendered().items() if file.read_text("utf-8") != text}
    for file, text in stale.items():
        if words:
            old = file.read_text("utf-8").splitlines()
            print(*difflib.unified_diff(old, text.splitlines(), str(file), "rendered"), sep="\n")
        else:
            file.write_text(text, "utf-8")
            print(f"{file.relative_to(HERE.parent)} rendered")
    return 1 if words and stale else 0


def rendered() -> dict[Path, str]:
    """Every page with its block as it must be."""
    blocks = [
        (HERE / "README.md", "sources", sources_table()),
        (HERE.parent / "README.md", "oracles", scores_table("random", "observer", "planner")),
        (ENVS, "oracles", scores_table(*reference_policies())),
        (ENVS, "parameters", parameters_table()),
        (ENVS, "replays", replays_table()),
        (SHOP, "shops", shops_table("train", "validation", "test")),
        (SIMULATORS / "README.md", "cards", simulators_table()),
        (HERE.parent / "README.md", "shops", shops_table("test")),
        (HERE.parent / "agents" / "README.md", "peaks", peaks_table()),
    ]
    blocks += [(CARDS / f"{name}.md", "counts", counts_table(name)) for name in source_names()]
    pages: dict[Path, str] = {}
    for file, block, content in blocks:
        text = pages.get(file) or file.read_text("utf-8")
        pages[file] = _filled(file, text, block, content)
    return pages


def scores_table(*policies: str) -> str:
    """What reference policies earn in each world of oracle users."""
    rows = [["environment", "what it asks of an agent", *policies]]
    for name, (question, _) in ORACLES.items():
        scores = frozen()[f"recgym/{name}-v0"]["scores"]
        means = (
            f"{scores[policy]['mean']:.2f} ± {scores[policy]['error']:.2f}" for policy in policies
        )
        rows.append([f"`recgym/{name}-v0`", question, *means])
    return _table(rows)


def parameters_table() -> str:
    """Every parameter of the oracle, with its default and its meaning."""
    lines = inspect.getsource(Oracle).splitlines()
    rows = [["parameter", "default", "meaning"]]
    for line in lines:
        if found := re.fullmatch(r"    (\w+): [^=]+ = ([^#]+?)  # (.+)", line):
            name, default, meaning = found.groups()
            rows.append([f"`{name}`", f"`{default}`", meaning])
    return _table(rows)


def replays_table() -> str:
    """The ids of replayed logs, and what builds each log."""
    rows = [["environment", "its log is built by"]]
    for data in REPLAYS:
        command = gymnasium.spec(f"recgym/{data}Replay-v0").kwargs["build"]
        rows.append([f"`recgym/{data}Replay-v0`", f"`{command}`"])
    return _table(rows)


def shops_table(*splits: str) -> str:
    """What shoppers reach in each shop: the mean reward, and how often it is 1."""
    shops = json.loads(FROZEN.read_text("utf-8"))
    ids = {kwargs["shop"]: f"`recgym/{name}-v0`" for name, kwargs in SHOPS.items()}
    known = next(iter(shops.values()))["scores"]["test"]
    rows = [["environment", "products", "goals", "split", *(f"`{name}`" for name in known)]]
    for name, shop in shops.items():
        for split in splits:
            scores = shop["scores"][split].values()
            reached = [f"{one['score']:.3f} ({one['success']:.1%})" for one in scores]
            about = [ids[name], f"{shop['products']:,}", f"{shop['goals']:,}", split]
            rows.append([*about, *reached])
    return _table(rows)


def simulators_table() -> str:
    """What the cards say of simulators, and of the best rival on pairs of like popularity."""
    rows = [["card", "model", "users", "right pairs", "as popular", "best rival, as popular"]]
    for file in sorted((SIMULATORS / "cards").glob("*/card.json")):
        card = json.loads(file.read_text("utf-8"))
        known = card["rows"]
        rival = max(("popularity", "ItemKNN", "GRU"), key=lambda name: _right(known[name])["mean"])
        rows.append([
            f"[{file.parent.name}](cards/{file.parent.name}/card.md)",
            f"`{card['asked']['model']}`, {card['parameters']:,} parameters",
            f"{card['users']:,}",
            _spread(known["as fitted"]["right"]["uniform"]),
            _spread(_right(known["as fitted"])),
            f"{rival}: {_spread(_right(known[rival]))}",
        ])  # fmt: skip
    return _table(rows)


def peaks_table() -> str:
    """How much memory trainings take, as speed/training.py measured it."""
    rows = [["agent", "items", "most memory (MB)", "beside what must be kept"]]
    for one in json.loads(PEAKS.read_text("utf-8")):
        about = [f"`{one['agent']}`", f"{one['items']:,}", f"{one['value'] / 2**20:,.0f}"]
        rows.append([*about, f"{one['ratio']:.2f} times"])
    return _table(rows)


def _right(row: dict[str, Any]) -> dict[str, float]:
    """How often it is right in pairs of like popularity."""
    found: dict[str, float] = row["right"]["popular"]
    return found


def _spread(one: dict[str, float]) -> str:
    return f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})"


def sources_table() -> str:
    """The sources that come with recgym, in their own words."""
    rows = [["source", "what it holds", "what to give as `--raw`"]]
    for name in source_names():
        source = load_source(name)
        holds = (source.__doc__ or "").splitlines()[0]
        needs = (source.needs or "nothing").replace("<", "&lt;")
        rows.append([f"[{name}](cards/{name}.md)", holds, needs])
    return _table(rows)


def counts_table(name: str) -> str:
    """What the built logs of a source hold, one column per log."""
    files = sorted([*COUNTS.glob(f"{name}.json"), *COUNTS.glob(f"{name}--*.json")])
    if not files:
        return "No log of this source has been counted yet."
    columns = [_column(Manifest.read(file)) for file in files]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [["", *(Path(file).stem.rpartition("--")[2] for file in files)]]
    rows += [[name, *(column.get(name, "") for column in columns)] for name in names]
    return _table(rows)


def _column(manifest: Manifest) -> dict[str, str]:
    counts = manifest.counts
    column = {name: f"{counts[name]:,}" for name in ("rows", "sessions", "items")}
    column |= {f"`{split}` rows": f"{counts['splits'][split]:,}" for split in SPLITS}
    column |= {f"`{name}`": f"{count:,}" for name, count in counts["behaviours"].items()}
    for split in ("validation", "test"):
        unseen, targets = counts["unseen"][split], counts["splits"][split]
        column[f"unseen targets, {split}"] = f"{unseen:,} ({unseen / max(targets, 1):.1%})"
    column["pairs of equal time"] = f"{counts['tied_pairs'] / max(counts['pairs'], 1):.1%}"
    column["protocol"] = f"{manifest.protocol['name']} ({manifest.protocol['split']})"
    column["digest"] = f"`{manifest.digest[:12]}`"
    column["built with"] = f"`{manifest.command}`"
    return column


def _table(rows: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _filled(file: Path, text: str, block: str, content: str) -> str:
    text, count = re.subn(
        f"<!-- {block} -->\n.*?<!-- /{block} -->",
        lambda _: f"<!-- {block} -->\n{content}\n<!-- /{block} -->",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"{file} needs one block <!-- {block} --> … <!-- /{block} -->, and has {count}.")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
