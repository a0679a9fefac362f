"""The pages of a shop: where a shopper is, what can be done there, and what is to be read.

A place and an action give the next place, and a place gives its texts and its actions: nothing else
is remembered, and nothing is drawn. Actions are `search[words]` and `click[what]`, in any case and
with blanks around their parts. What does not parse, or is not there to be clicked, changes nothing.
Words are searched for on the search page only, where there are any, in at most 2,000 characters.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import recgym.shop.html as html
from recgym.shop.catalogue import Catalogue, Product

if TYPE_CHECKING:
    from recgym.shop.goals import Goal
    from recgym.shop.reward import Judge, Reward

Page = Literal["search", "results", "item", "sub", "done"]
PER_PAGE, MOST = 10, 50  # products of a page of results, and of all
LONGEST = 2000  # characters of a query
QUERY = "search[<query>]"  # the action of the search page, whose words are the shopper's own
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUBS = ("Description", "Features", "Reviews", "Attributes")
_SEP = " [SEP] "
_KEPT, _LABELS = 1024, 8192  # pages of each kind, and labels of products, that are kept
_BLANKS = " \n\t\f\r"  # which a reader of HTML takes together
_NO_PRODUCT = -1  # a button among products
_ON_SUBS = (f"click[{BACK.lower()}]", f"click[{PREVIOUS.lower()}]")
_ON_SEARCH = ((f"WebShop{_SEP}", "Search"), ("WebShop\n", "[button] Search [button_]\n"))
_BEFORE_BOUGHT = (
    "Thank you for shopping with us!", "Your code: ", "None",
    " (Paste it in your MTurk interface.)",
)  # fmt: skip
_AFTER_BOUGHT = (
    "attrs", "None", "category", "None", "query", "None", "product category", "None",
    "Target", "asin", "options", "attrs", "price upper", "instuction text", "category",
    "product category", "query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)",
)  # fmt: skip
_AT_LAST = ("Reward Details ", "None")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shopper is, and what matters of the way there."""

    page: Page = "search"
    query: str = ""
    number: int = 1  # of the page of results
    product: int = -1  # of the catalogue: the last one that was looked at
    sub: str = ""  # description, features, reviews or attributes
    chosen: tuple[tuple[str, str], ...] = ()  # its options: (group, value) in the order of clicks
    opened: tuple[int, ...] = ()  # products that were looked at since the search page


@dataclass(frozen=True, slots=True)
class Quirks:
    """What WebShop's own code does, and a shop only where it is asked to."""

    greedy: bool = False  # what lies before the last "[" must be "search" or "click" exactly
    search_anywhere: bool = False  # words are searched for on any page
    special_queries: bool = False  # "<c> word", "<q> words", "<r>": a category, a query, a draw
    endless: bool = False  # pages of results have no end: "next >" goes on where nothing is left
    forgetful: bool = False  # "< prev" on a product's page forgets its options
    last_group: bool = False  # a value that several groups offer is always that of the last one
    by_address: bool = False  # an option counts as clicked where "option" is in the page's address
    upwards: bool = False  # "You have clicked" begins with what stands last on the page
    blanks: bool = False  # lines of a product that are blank are lines, too
    all_of_done: bool = False  # the last page shows what a browser hides


ORIGINAL = Quirks(**{field.name: True for field in fields(Quirks)})


class Searches(Protocol):
    """An index of products."""

    def search(self, query: str, most: int = MOST) -> NDArray[np.int32]:
        """The numbers of the best products for a query, the best one first."""


class Label(NamedTuple):
    """What a page of results says of a product."""

    asin: str
    name: str
    price: str
    plain: str  # all of it, and in rich text what stands below the ASIN
    rich: str


@dataclass(frozen=True, slots=True)
class _Results:
    shelf: list[tuple[int, Label]]  # products of this page
    total: int  # of all pages
    clicks: dict[str, int]  # what can be clicked: products, and buttons below 0
    actions: tuple[str, ...]
    plain: str
    top: str  # of the rich text

    def text(self, rich: bool, opened: tuple[int, ...]) -> str:
        if not rich:
            return self.plain
        links = (f"\n{_button(label.asin, i in opened)}{label.rich}" for i, label in self.shelf)
        return self.top + "".join(links)


@dataclass(frozen=True, slots=True)
class _Item:
    clicks: dict[str, list[tuple[str, str]]]  # options: (group, value), one for each group
    actions: tuple[str, ...]
    plain: str


class Shop:
    """All that sessions share: products, their index, and page parts that were made before."""

    def __init__(
        self,
        catalogue: Catalogue,
        index: Searches,
        judge: "Judge",
        compat: bool = False,
        *,
        quirks: Quirks | None = None,
        attributes: bool = False,
    ) -> None:
        """Open a shop: `compat` is as WebShop's own code has it, `quirks` are some of that only.

        `attributes` adds the page that tells what a product would be wanted for.
        """
        self.catalogue, self.index, self.judge, self.compat = catalogue, index, judge, compat
        self.quirks = quirks or (ORIGINAL if compat else Quirks())
        self.subs = {name.lower(): name for name in (SUBS if attributes else SUBS[:-1])}
        # Not decorators: those would keep a shop alive, and share the room among shops.
        self._found: Callable[[str, int], NDArray[np.int32]] = lru_cache(4 * _KEPT)(self._find)
        self._label: Callable[[int], Label] = lru_cache(_LABELS)(self._make_label)
        self._results: Callable[[str, int], _Results] = lru_cache(_KEPT)(self._make_results)
        self._item: Callable[[int], _Item] = lru_cache(_KEPT)(self._make_item)
        self._marked: Callable[..., tuple[str, str]] = lru_cache(_KEPT)(self._mark)
        self._sub: Callable[[int, str], tuple[str, str]] = lru_cache(_KEPT)(self._make_sub)

    # ------------------------------------------------------------------------------ going places

    def step(self, place: Place, action: str) -> tuple[Place, bool]:
        """Where an action leads; or the same place, and that it means nothing there."""
        name, argument = self._parsed(action)
        after = None
        if name == "click":
            if place.page == "results":
                after = self._from_results(place, argument)
            elif place.page == "item":
                after = self._from_item(place, argument)
            elif place.page == "sub":
                after = self._from_sub(place, argument)
        elif name == "search":
            after = self._search(place, argument)
        return (place, False) if after is None else (after, True)

    def actions(self, place: Place) -> tuple[str, ...]:
        """What can be done: clicks in page order, or a search, for words of the shopper's own."""
        if place.page == "results":
            return self._results(place.query, place.number).actions
        if place.page == "item":
            return self._item(place.product).actions
        if place.page == "sub":
            return _ON_SUBS
        return (QUERY,) if place.page == "search" else ()

    def reward(self, place: Place, goal: "Goal") -> "Reward":
        """What it is worth to buy the product of a place with what is chosen there."""
        product = self.catalogue.products[place.product]
        return self.judge.reward(product, dict(place.chosen), goal, self.compat)

    def _parsed(self, action: str) -> tuple[str, str]:
        """The name of an action and its argument, which is empty where it does not parse."""
        if self.quirks.greedy:
            line = action.partition("\n")[0]
            end = line.rfind("]")
            start = line.rfind("[", 1, max(end - 1, 0))
            return ("", "") if start < 0 else (line[:start], line[start + 1 : end].lower())
        name, _, rest = action.strip().partition("[")
        return (name.strip().lower(), rest[:-1].strip().lower()) if rest[-1:] == "]" else ("", "")

    def _search(self, place: Place, words: str) -> Place | None:
        if place.page != "search" and (place.page == "done" or not self.quirks.search_anywhere):
            return None
        if not words.isascii():
            words = words.encode("utf-8", "replace").decode()  # halves of characters
        if self.quirks.special_queries:
            kind, _, of = words.partition(" ")
            if kind == "<a>" or (kind == "<c>" and " " not in words):
                return None  # there the original breaks
        else:
            words = " ".join(words.split())
        if not 0 < len(words) <= LONGEST:
            return None
        return Place("results", words, opened=place.opened)

    def _from_results(self, place: Place, what: str) -> Place | None:
        results = self._results(place.query, place.number)
        product = results.clicks.get(what)
        if product is None:
            return None
        if product >= 0:
            same = product == place.product
            opened = place.opened if product in place.opened else (*place.opened, product)
            chosen = place.chosen if same else ()
            return Place("item", place.query, place.number, product, "", chosen, opened)
        if what == "back to search":
            return Place()
        number = place.number + (1 if what == "next >" else -1)
        return Place(
            "results", place.query, number, place.product, "", place.chosen, place.opened
        )  # fmt: skip

    def _from_item(self, place: Place, what: str) -> Place | None:
        query, number, product = place.query, place.number, place.product
        if what == "< prev":
            if self.quirks.forgetful:
                return Place("results", query, number, opened=place.opened)
            return Place("results", query, number, product, "", place.chosen, place.opened)
        if what == "back to search":
            return Place()
        if what == "buy now":
            return Place("done", query, number, product, "", place.chosen, place.opened)
        if what in self.subs:
            return Place("sub", query, number, product, what, place.chosen, place.opened)
        options = self._item(product).clicks.get(what)
        if options is None:
            return None
        option = options[-1]
        if len(options) > 1 and not self.quirks.last_group:
            taken = {group for group, _ in place.chosen}
            option = next((other for other in options if other[0] not in taken), option)
        chosen = (*(other for other in place.chosen if other[0] != option[0]), option)
        return Place("item", query, number, product, "", chosen, place.opened)

    @staticmethod
    def _from_sub(place: Place, what: str) -> Place | None:
        if what == "< prev":
            return Place(
                "item", place.query, place.number, place.product, "", place.chosen, place.opened
            )  # fmt: skip
        return Place() if what == "back to search" else None

    # ---------------------------------------------------------------------------- what is to read

    def text(
        self, place: Place, goal_text: str, rich: bool = False, reward: float | None = None
    ) -> str:
        """What a page says, as WebShop's mode `text` or `text_rich`; the last one with a reward."""
        if place.page == "done":
            return self._done(place, rich, reward)
        top = title = ""
        if place.page == "search":
            title, body = _ON_SEARCH[rich]
        elif place.page == "results":
            body = self._results(place.query, place.number).text(rich, place.opened)
        elif place.page == "sub":
            body = self._sub(place.product, place.sub)[rich]
        elif rich:
            query = place.query if self.quirks.by_address else ""
            top, body = self._marked(place.product, place.chosen, query)
        else:
            body = self._item(place.product).plain
        if rich:
            blank = " " if place.page == "search" else ""
            goal = f"{goal_text}\n" if goal_text.strip() else ""
            return f"{top}{title}Instruction:{blank}\n{goal}{body}"
        goal = goal_text.strip()
        return f"{title}Instruction:{_SEP}{goal}{_SEP if goal else ''}{body}"

    def html(self, place: Place, goal_text: str, reward: float | None = None) -> str:
        """The page for people: on its own, without scripts, images or anything to load."""
        if place.page == "search":
            return html.search(goal_text)
        if place.page == "results":
            results = self._results(place.query, place.number)
            buttons = [name for name in (BACK, PREVIOUS, NEXT) if name.lower() in results.clicks]
            shelf = [(*label[:3], number in place.opened) for number, label in results.shelf]
            return html.results(
                goal_text, place.query, place.number, results.total, buttons, shelf
            )  # fmt: skip
        product = self.catalogue.products[place.product]
        price = price_tag(product)
        if place.page == "item":
            return html.item(goal_text, product, price, place.chosen, [*self.subs.values()])
        if place.page == "sub":
            told = self._nodes(_told(product, place.sub))
            return html.sub(goal_text, product, self.subs[place.sub], told)
        return html.done(goal_text, product, price, place.chosen, reward)

    def _done(self, place: Place, rich: bool, reward: float | None) -> str:
        bought = ["Purchased", "asin", self.catalogue.products[place.product].asin, "options"]
        if self.quirks.all_of_done:
            options = json.dumps(dict(place.chosen), sort_keys=True)
            for mark in "<>&'":
                options = options.replace(mark, f"\\u{ord(mark):04x}")
            lines = [*_BEFORE_BOUGHT, *bought, options, *_AFTER_BOUGHT, f"{reward}", *_AT_LAST]
        else:
            options = json.dumps(dict(place.chosen), ensure_ascii=False)
            lines = [_BEFORE_BOUGHT[0], *bought, options]
            lines += [] if reward is None else [_AFTER_BOUGHT[-1], f"{reward}"]
        if rich:
            return "".join(f"{line}\n" for line in lines)
        return _SEP.join(line.strip() for line in lines)

    # --------------------------------------------------------------- parts of pages, made but once

    def _find(self, query: str, number: int) -> NDArray[np.int32]:
        kind, _, of = query.partition(" ") if self.quirks.special_queries else ("", "", "")
        products = self.catalogue.products
        if kind == "<r>":  # another draw on every page, but the same one on each visit
            count = len(products)
            draw = np.random.default_rng(number).choice(count, min(MOST, count), replace=False)
            return draw.astype(np.int32)
        if kind == "<c>":  # the first word only
            of = of.partition(" ")[0].strip()
            return np.array([i for i, one in enumerate(products) if one.category == of], np.int32)
        if kind == "<q>":
            of = of.strip()
            return np.array([i for i, one in enumerate(products) if one.query == of], np.int32)
        return self.index.search(query, MOST)

    def _make_label(self, number: int) -> Label:
        product = self.catalogue.products[number]
        price = price_tag(product)
        below = self._nodes((product.name, price))
        plain = _SEP.join((product.asin, *map(str.strip, below)))
        return Label(product.asin, product.name, price, plain, "".join(map("{}\n".format, below)))

    def _make_results(self, query: str, number: int) -> _Results:
        drawn = self.quirks.special_queries and query.partition(" ")[0] == "<r>"
        found = self._found(query, number if drawn else 0)
        total, end = len(found), number * PER_PAGE
        shelf = [(i, self._label(i)) for i in found[end - PER_PAGE : end].tolist()]
        buttons = [BACK]
        if number > 1:
            buttons.append(PREVIOUS)
        if end < total or self.quirks.endless:
            buttons.append(NEXT)
        clicks = {name.lower(): _NO_PRODUCT for name in buttons}
        for product, label in shelf:
            clicks.setdefault(label.asin.lower(), product)
        page = f"Page {number} (Total results: {total})"
        return _Results(
            shelf, total, clicks, tuple(f"click[{what}]" for what in clicks),
            _SEP.join((BACK, page, *buttons[1:], *(label.plain for _, label in shelf))),
            "".join((_button(BACK), f"{page}\n", *map(_button, buttons[1:]))),
        )  # fmt: skip

    def _make_item(self, number: int) -> _Item:
        product = self.catalogue.products[number]
        clicks: dict[str, list[tuple[str, str]]] = {}
        for group, values in product.options.items():
            for value in values:
                if what := value.strip().lower():
                    clicks.setdefault(what, []).append((group, value))
        buttons = [BACK, PREVIOUS, *self.subs.values(), BUY]
        said = dict.fromkeys((*(name.lower() for name in buttons), *clicks))
        options = (part for group in product.options.items() for part in (group[0], *group[1]))
        lines = self._nodes((*options, *_beside(product)))
        return _Item(
            clicks, tuple(f"click[{what}]" for what in said),
            _SEP.join((*buttons[:2], *map(str.strip, lines), *buttons[2:])),
        )  # fmt: skip

    def _mark(
        self, number: int, chosen: tuple[tuple[str, str], ...], query: str
    ) -> tuple[str, str]:
        """What the rich text of a product says first, and what it says below the goal."""
        quirks, product = self.quirks, self.catalogue.products[number]
        words = query.replace(" ", "+")
        address = f"{product.asin}/{words}/{json.dumps(dict(chosen))}" if quirks.by_address else ""
        lines, marked = [_button(BACK), _button(PREVIOUS)], []
        for group, values in product.options.items():
            lines += [f"{line}\n" for line in self._nodes((group,))]
            for value in self._nodes(values):
                clicked = f'"{value}"' in address if address else (group, value) in chosen
                lines.append("  " + _button(value, clicked))
                if clicked:
                    marked.append(value)
        lines += [f"{line}\n" for line in self._nodes(_beside(product))]
        lines += map(_button, (*self.subs.values(), BUY))
        if quirks.upwards:
            marked.reverse()
        elif not quirks.by_address:
            marked = [value for _, value in chosen]
        return "".join(f"You have clicked {value}.\n" for value in marked), "".join(lines)

    def _make_sub(self, number: int, sub: str) -> tuple[str, str]:
        product = self.catalogue.products[number]
        lines = self._nodes(_told(product, sub, " "))
        rich = "".join((_button(BACK), _button(PREVIOUS), *(f"{line}\n" for line in lines)))
        return _SEP.join((BACK, PREVIOUS, *map(str.strip, lines))), rich

    def _nodes(self, texts: Iterable[str]) -> list[str]:
        """Those of several texts that make a line."""
        if not self.quirks.blanks:
            return [text for text in texts if text.strip()]
        return [
            text if text.strip(_BLANKS) else " "
            for text in texts
            if text and (text.strip(_BLANKS) or "\n" not in text)
        ]


def price_tag(product: Product) -> str:
    """The price of a product as it is shown: one, or the two ends of a range."""
    return " to ".join(f"${price}" for price in product.prices or (product.price,))


def _beside(product: Product) -> tuple[str, ...]:
    """What a product's page says beside its options."""
    return product.name, f"Price: {price_tag(product)}", "Rating: N.A."  # none are ever read


def _told(product: Product, sub: str, indent: str = "") -> list[str]:
    """What a page below a product's own says of it; the entries of lists are indented."""
    if sub == "description":
        return [product.description]
    if sub == "features":
        return [indent + bullet for bullet in product.bullets]
    if sub == "attributes":
        path = " › ".join(product.path)
        return [*(indent + name for name in product.attributes),
                product.category, product.query, path]  # fmt: skip
    return []  # reviews, of which there are none


def _button(name: str, clicked: bool = False) -> str:
    word = "clicked button" if clicked else "button"
    return f"[{word}] {name} [{word}_]\n"
