"""How rendered pages show metrics: the names, the digits, tables, and blocks that are filled."""

from collections.abc import Sequence

from recgym.errors import InvalidArgument

SURE = 0.05  # below which an adjusted p lets a difference be marked
NAMES = {"return": "return", "ndcg@10": "NDCG@10", "snips": "SNIPS click rate", "score": "score",
         "success": "success"}  # fmt: skip
DIGITS = {"return": 2, "ndcg@10": 3, "snips": 4, "score": 3, "success": 3}


def filled(text: str, block: str, content: str, page: str) -> str:
    """A text with that content in its block of that name; `page` is what an error calls it."""
    opening, closing = f"<!-- {block} -->", f"<!-- /{block} -->"
    if text.count(opening) != 1 or text.count(closing) != 1:
        raise InvalidArgument(f"{page} needs one block {opening} … {closing}.")
    before, _, rest = text.partition(opening)
    _, _, after = rest.partition(closing)
    return f"{before}{opening}\n{content}\n{closing}{after}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row heads it."""
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def chance(p: float) -> str:
    """A p-value."""
    return "p below 0.001" if p < 0.001 else f"p {p:.3f}"


def spread(mean: float, low: float, high: float, digits: int, sign: str = "") -> str:
    """A mean and its interval; with "+" for a sign, a gain has one, too."""
    shown = f"{sign}.{digits}f"
    return f"{mean:{shown}} ({low:{shown}} to {high:{shown}})"
