"""Pages of a shop as HTML for people: each on its own, with nothing to run and nothing to load."""

import re
import zlib
from collections.abc import Iterable, Sequence
from html import escape

from recgym.shop.catalogue import Product

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NOTHING = '<p class="muted">Nothing is said here.</p>'
_STYLE = """
* { box-sizing: border-box }
body { margin: 0; background: #f6f5f1; color: #26241f; overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif }
header { background: #23403a; color: #f3f1ea; padding: 18px 24px }
header p { max-width: 900px; margin: 0 auto }
header b { display: block; font-size: 13px; letter-spacing: .08em; color: #b9d0c4 }
main { max-width: 948px; margin: 0 auto; padding: 20px 24px 48px }
h1 { font-size: 22px; line-height: 1.3; margin: 0 0 8px }
h2 { font-size: 15px; margin: 18px 0 6px; color: #5d5a50 }
button, .box { font: inherit; color: #23403a; background: #fff; border: 1px solid #b8b4a6;
  border-radius: 8px; padding: 5px 14px; margin: 0 6px 8px 0; text-align: left }
button.on { background: #23403a; color: #fff; border-color: #23403a }
button.buy { background: #b85f12; color: #fff; border-color: #b85f12; font-weight: 600 }
.box { display: inline-block; width: min(520px, 100%); color: #8a8678 }
.muted { color: #77736a }
.card { background: #fff; border: 1px solid #e2dfd4; border-radius: 12px; padding: 16px;
  margin: 0 0 10px; display: flex; gap: 16px }
.card p { margin: 0 0 4px }
.card .wide { flex: 1; min-width: 0 }
.tile { flex: none; width: 64px; height: 64px; border-radius: 10px; color: #fff; font-size: 28px;
  display: flex; align-items: center; justify-content: center }
.large { width: 180px; height: 180px; font-size: 72px }
.price { font-weight: 600; color: #a3550f }
.score { font-size: 40px; font-weight: 600; color: #23403a; margin: 4px 0 }
@media (max-width: 600px) { .large { width: 72px; height: 72px; font-size: 32px } }
"""


def search(goal: str) -> str:
    """The page with the search bar."""
    bar = '<span class="box">Search…</span><button type="button" title="search[…]">Search</button>'
    return _page("Search", goal, f"<div>{bar}</div>")


def results(
    goal: str, query: str, number: int, total: int, buttons: Iterable[str],
    shelf: Iterable[tuple[str, str, str, bool]],
) -> str:  # fmt: skip
    """A page of results: ASIN, name and price of each product, and whether it was looked at."""
    cards = "".join(
        f'<div class="card">{_tile(asin, name)}<div class="wide">'
        f"<p>{_button(asin, 'on' if opened else '')}</p>"
        f'<p>{_safe(name)}</p><p class="price">{_safe(price)}</p></div></div>'
        for asin, name, price, opened in shelf
    )
    return _page(
        "Results", goal,
        f"<div>{''.join(map(_button, buttons))}</div><h1>{_safe(query)}</h1>"
        f'<p class="muted">Page {number} (Total results: {total})</p>{cards or _NOTHING}',
    )  # fmt: skip


def item(
    goal: str, product: Product, price: str, chosen: Sequence[tuple[str, str]], subs: Iterable[str]
) -> str:
    """The page of a product, with its options."""
    groups = "".join(
        f"<h2>{_safe(group)}</h2><div>"
        + "".join(_button(value, "on" if (group, value) in chosen else "") for value in values)
        + "</div>"
        for group, values in product.options.items()
    )
    return _page(
        product.name, goal,
        f'<div>{_button("Back to Search")}{_button("< Prev")}</div>'
        f'<div class="card">{_tile(product.asin, product.name, "large")}<div class="wide">'
        f'<h1>{_safe(product.name)}</h1><p class="price">{_safe(price)}</p>'
        f'<p class="muted">{_safe(product.asin)} · no rating</p>{groups}<h2>More</h2>'
        f'<div>{"".join(map(_button, subs))}{_button("Buy Now", "buy")}</div></div></div>',
    )  # fmt: skip


def sub(goal: str, product: Product, name: str, told: Sequence[str]) -> str:
    """The description of a product, its features or its reviews."""
    if name == "Features":
        body = f"<ul>{''.join(f'<li>{_safe(line)}</li>' for line in told)}</ul>"
    else:
        body = "".join(f"<p>{_safe(line)}</p>" for line in told)
    return _page(
        name, goal,
        f'<div>{_button("Back to Search")}{_button("< Prev")}</div>'
        f'<div class="card"><div class="wide"><h1>{_safe(name)}</h1>'
        f'<p class="muted">{_safe(product.name)}</p>{body if told else _NOTHING}</div></div>',
    )  # fmt: skip


def done(
    goal: str,
    product: Product,
    price: str,
    chosen: Sequence[tuple[str, str]],
    reward: float | None,
) -> str:
    """The page after a purchase."""
    options = "".join(f"<p>{_safe(group)}: {_safe(value)}</p>" for group, value in chosen)
    score = "" if reward is None else (
        f'<h2>Your score (0 to 1)</h2><p class="score">{reward:.3f}</p>'
    )  # fmt: skip
    return _page(
        "Thank you", goal,
        f'<h1>Thank you for shopping with us!</h1><div class="card">'
        f'{_tile(product.asin, product.name)}<div class="wide"><p>{_safe(product.name)}</p>'
        f'<p class="price">{_safe(price)}</p><p class="muted">{_safe(product.asin)}'
        f"</p>{options}</div></div>{score}",
    )  # fmt: skip


def _page(title: str, goal: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><p><b>INSTRUCTION</b>{_safe(goal)}</p></header><main>{body}</main></body></html>\n"
    )


def _button(name: str, kind: str = "") -> str:
    """A button that tells its action when pointed at."""
    action = _safe(f"click[{name.strip().lower()}]")
    return f'<button type="button" class="{kind}" title="{action}">{_safe(name)}</button>'


def _tile(asin: str, name: str, size: str = "") -> str:
    """In the place of a picture: the first letter, on a colour of the product's own."""
    hue = zlib.crc32(asin.encode("utf-8", "replace")) % 360
    letter = next((mark for mark in name if mark.isalnum()), "·")
    return f'<div class="tile {size}" style="background: hsl({hue} 30% 42%)">{_safe(letter)}</div>'


def _safe(text: str) -> str:
    """Text as it may stand in a page, also in quotes: nothing in it is a mark of the page."""
    return escape(_NO_TEXT.sub("\ufffd", text))
