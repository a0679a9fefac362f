"""Products of a shop: read from WebShop's files, and kept so that a million open at once."""

import hashlib
import json
import math
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from recgym import __version__
from recgym.errors import BadDataset, BadRawData, InvalidArgument, printable
from recgym.home import whole_folder, write_whole
from recgym.log import sha256_of_json

NO_PRICE = 100.0  # what a product costs that names no price
_PRODUCTS, _INSTRUCTIONS = "items_shuffle", "items_ins_v2"  # WebShop's files begin with that
_LONGEST_ASIN = 10
_CHUNK, _LARGEST_ROW = 1 << 20, 64 << 20  # characters
_SCHEMA = 1
_LINES, _OFFSETS, _ASINS, _ORDER = "products.jsonl", "offsets.npy", "asins.npy", "order.npy"
_MANIFEST = "manifest.json"
_KEPT = 1024  # products that were read last


@dataclass(frozen=True, slots=True)
class Product:
    """What a shop knows of one product; tags and entities in its texts are text, as in the file."""

    asin: str
    name: str
    description: str
    bullets: tuple[str, ...]
    category: str  # garden, fashion ...
    query: str  # of the crawl that found it
    path: tuple[str, ...]  # of the category, the widest one first
    options: Mapping[str, tuple[str, ...]]  # group -> values
    prices: tuple[float, ...]  # as printed: none, one, or the two ends of a range
    price: float  # what it costs
    attributes: tuple[str, ...]
    instruction: str = ""  # that asks for it, without options and price
    instruction_attributes: tuple[str, ...] = ()
    image: str = ""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All products of a shop, numbered from 0."""

    name: str
    products: Sequence[Product]  # may be read from disk when asked for
    sha256: str
    notes: tuple[str, ...] = ()  # what was found amiss in the files they are from, and counted
    numbers: Mapping[str, int] | None = None  # by ASIN; worked out where it is not given

    def number(self, asin: str) -> int:
        """Which product has that ASIN, or -1."""
        return (self._numbers if self.numbers is None else self.numbers).get(asin, -1)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {product.asin: number for number, product in enumerate(self.products)}


def catalogue_of(name: str, products: Sequence[Product], notes: tuple[str, ...] = ()) -> Catalogue:
    """A catalogue of these products, hashed by all that is known of them."""
    digest = hashlib.sha256()
    for product in products:
        digest.update(_line(product))
    return Catalogue(name, products, digest.hexdigest(), notes)


def read_webshop(
    path: str | os.PathLike[str], instructions: str | os.PathLike[str] | None = None
) -> Catalogue:
    """The products of WebShop's files, in memory.

    `path` is their folder or the file of products (items_shuffle*.json); the file of attributes and
    instructions (items_ins_v2*.json) is the one beside it, unless it is given.
    """
    files = _Files.found(Path(path), instructions)
    notes: Counter[str] = Counter()
    products = list(_products(files, notes))
    return catalogue_of(files.name, products, _told(notes))


def keep_webshop(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    instructions: str | os.PathLike[str] | None = None,
    *,
    replace: bool = False,
) -> Catalogue:
    """As `read_webshop`, straight to a folder: all of WebShop's products need not fit in memory."""
    files = _Files.found(Path(path), instructions)
    notes: Counter[str] = Counter()
    with _replacing(Path(folder), replace) as draft:
        digest = _write_products(_products(files, notes), draft)
        _write_manifest(draft, files.name, digest, digest, _told(notes))
    return open_catalogue(folder)


def write_catalogue(
    catalogue: Catalogue, folder: str | os.PathLike[str], *, replace: bool = False
) -> None:
    """Keep a catalogue in a folder, which is there whole or not at all."""
    with _replacing(Path(folder), replace) as draft:
        digest = _write_products(catalogue.products, draft)
        _write_manifest(draft, catalogue.name, catalogue.sha256, digest, catalogue.notes)


def open_catalogue(folder: str | os.PathLike[str], *, verify: bool = False) -> Catalogue:
    """The catalogue that a folder keeps, read when it is asked for; `verify` reads it all once."""
    place = Path(folder)
    about = _read_manifest(place)
    for name, size in about["bytes"].items():
        found = (place / name).stat().st_size if (place / name).is_file() else None
        if found != size:
            raise _damaged(place, f"{name} has {found} bytes and not {size}" if found is not None
                           else f"{name} is missing")  # fmt: skip
    if verify and _sha256_of_file(place / _LINES) != about["products_sha256"]:
        raise _damaged(place, f"{_LINES} was changed after it was written")
    return Catalogue(
        about["name"],
        _Stored(place),
        about["sha256"],
        tuple(about["notes"]),
        _StoredNumbers(place),
    )


def share_of(*what: object) -> float:
    """A number in [0, 1) that depends on these words only, on every machine."""
    text = "\0".join(map(str, what))
    bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return (bits >> 11) * 2.0**-53


def read_json(file: Path) -> Any:
    """A file of JSON, whatever is wrong with it being one sentence."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), strict=False)
    except (OSError, ValueError, RecursionError) as problem:
        raise BadRawData(
            f"{file} cannot be read ({_why(problem)}): it was cut or is no JSON. Download it again."
        ) from None


def text_of(value: object) -> str:
    """What a field says: nothing where it is missing, and only what can be written."""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(text_of, value)))
    if isinstance(value, float) and not math.isfinite(value):  # a gap, as pandas writes it
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character: JSON can name those, and nothing can write them
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def texts_of(value: object) -> tuple[str, ...]:
    """What a field of several texts says; one text alone is also good."""
    if isinstance(value, list):
        return tuple(text for text in map(text_of, value) if text)
    return (text,) if (text := text_of(value)) else ()


# ------------------------------------------------------------------------------- WebShop's files


@dataclass(frozen=True)
class _Files:
    """Where products, and their attributes and instructions, are."""

    products: Path
    instructions: Path

    @property
    def name(self) -> str:
        """What a catalogue of these files is called."""
        size = self.products.stem.removeprefix(_PRODUCTS).strip("_")
        return "webshop" + {"": "", "1000": "-1k"}.get(size, f"-{size}")

    @classmethod
    def found(cls, path: Path, instructions: str | os.PathLike[str] | None) -> "_Files":
        if path.is_dir():
            products = _only(path, _PRODUCTS)
        elif path.is_file():
            products = path
        else:
            raise BadRawData(
                f"{path} is not there: give the folder of WebShop's files, or the path of "
                f"{_PRODUCTS}*.json."
            )
        if instructions is not None:
            beside = Path(instructions)
            if not beside.is_file():
                raise BadRawData(f"{beside} is not there: give the path of {_INSTRUCTIONS}*.json.")
        else:
            beside = products.with_name(products.name.replace(_PRODUCTS, _INSTRUCTIONS, 1))
            if beside == products or not beside.is_file():
                beside = _only(products.parent, _INSTRUCTIONS)
        return cls(products, beside)


def _only(folder: Path, begins: str) -> Path:
    """The one file of a folder whose name begins so."""
    found = sorted(folder.glob(f"{begins}*.json"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(printable(file.name) for file in found)
        raise BadRawData(f"{folder} has several files to choose from ({names}): name one of them.")
    there = [printable(file.name) for file in sorted(folder.iterdir())[:8]]
    raise BadRawData(
        f"{folder} has no {begins}*.json; it has {', '.join(there) or 'nothing'}. Give the folder "
        "of WebShop's files as they were downloaded."
    )


def _products(files: _Files, notes: Counter[str]) -> Iterator[Product]:
    """The products of these files, in order; what is amiss is counted."""
    known = read_json(files.instructions)
    if not isinstance(known, dict):
        raise BadRawData(
            f"{files.instructions} holds no attributes by ASIN: give WebShop's {_INSTRUCTIONS}*"
            ".json."
        )
    seen: set[str] = set()
    matched = 0
    for row in _rows(files.products):
        raw = text_of(row.get("asin")).strip() if isinstance(row, dict) else ""
        asin = raw.upper()
        if not raw or raw == "nan" or len(raw) > _LONGEST_ASIN or not raw.isprintable():
            notes["Rows without an ASIN of at most 10 characters, left out"] += 1
        elif asin in seen:
            notes["Rows that repeat an ASIN, left out: the first one counts"] += 1
        else:
            seen.add(asin)
            about = known.get(raw)
            matched += about is not None
            yield _product(asin, row, about if isinstance(about, dict) else {}, notes)
    if not seen:
        raise BadRawData(
            f"{files.products} holds no products: give WebShop's {_PRODUCTS}*.json, whose rows "
            "have asin, name and pricing."
        )
    if not matched:
        raise BadRawData(
            f"{files.instructions} knows none of the {len(seen):,} products of {files.products}: "
            "give two files of one catalogue."
        )
    if matched < len(seen):
        notes[f"Products of which {printable(files.instructions.name)} says nothing"] = (
            len(seen) - matched
        )


def _product(
    asin: str, row: Mapping[str, Any], about: Mapping[str, Any], notes: Counter[str]
) -> Product:
    name, prices = text_of(row.get("name")), _prices(row.get("pricing"), notes)
    if not name.strip():
        notes["Products without a title"] += 1
    path = [part.strip() for part in text_of(row.get("product_category")).split("›")]
    return Product(
        asin=asin,
        name=name,
        description=text_of(row.get("full_description")),
        bullets=texts_of(row.get("small_description")),
        category=text_of(row.get("category")),
        query=text_of(row.get("query")).lower().strip(),
        path=tuple(filter(None, path)),
        options=_options(row.get("customization_options"), notes),
        prices=prices,
        price=price_of(asin, prices),
        attributes=texts_of(about.get("attributes")),
        instruction=text_of(about.get("instruction")).strip(),
        instruction_attributes=texts_of(about.get("instruction_attributes")),
        image=next(iter(texts_of(row.get("images"))), ""),
    )


def price_of(asin: str, prices: Sequence[float]) -> float:
    """What a product costs: of a range, a draw that depends on the ASIN only, so never changes."""
    if len(prices) < 2:
        return prices[0] if prices else NO_PRICE
    first, last = prices[:2]
    return round(first + (last - first) * share_of("price", asin), 2)


def _prices(printed: object, notes: Counter[str]) -> tuple[float, ...]:
    """$5.99, $1,299.00, or the two ends of a range, as $19.99$27.99 or $19.99 to $27.99."""
    text = text_of(printed)
    parts = [re.sub(r"[^\d.]", "", part) for part in text.split("$")[1:] or [text]]
    found = [float(part) for part in parts if re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", part)]
    found = [price for price in found if math.isfinite(price)]
    if not found:
        notes[f"Products without a price that can be read, which cost {NO_PRICE:.2f}"] += 1
    return tuple(found[:2])


def _options(given: object, notes: Counter[str]) -> dict[str, tuple[str, ...]]:
    """By group, in the order of the file; a group without values offers no choice and is left out.

    A value twice in a group stays twice: WebShop makes a goal of each.
    """
    options: dict[str, tuple[str, ...]] = {}
    for group, contents in given.items() if isinstance(given, dict) else ():
        values = []
        for content in contents if isinstance(contents, list) else ():
            value = content.get("value") if isinstance(content, dict) else content
            if text := text_of(value).strip().replace("/", " | ").lower():
                values.append(text)
            else:
                notes["Values of options without a text, left out"] += 1
        if values:
            name = text_of(group).strip().lower()
            options[name] = options.get(name, ()) + tuple(values)
    return options


def _told(notes: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{what}: {count:,}." for what, count in sorted(notes.items()))


def _rows(file: Path) -> Iterator[Any]:
    """The elements of a list in a file of JSON, one by one: the full one has 5 GB."""
    decode = json.JSONDecoder(strict=False).raw_decode
    number, text, at = 0, "", 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as source:
            while True:
                try:
                    start = _start(text, at, "," if number else "[")
                    if text[start] == "]":
                        return
                    row, end = decode(text, start)
                    text[end]  # a list goes on after each element, and a number may be cut
                except (ValueError, IndexError) as problem:
                    more = ""
                    if len(text) - at < _LARGEST_ROW:
                        more = source.read(max(_CHUNK, len(text) - at))
                    if not more:
                        raise BadRawData(
                            f"{file} is no list of products from row {number + 1:,} on "
                            f"({_why(problem)}): it was cut or changed. Download it again."
                        ) from None
                    text, at = text[at:] + more, 0
                else:
                    yield row
                    at, number = end, number + 1
    except (OSError, UnicodeDecodeError, RecursionError) as problem:
        raise BadRawData(
            f"{file} cannot be read ({_why(problem)}). Give WebShop's {_PRODUCTS}*.json as it was "
            "downloaded."
        ) from None


def _start(text: str, at: int, sign: str) -> int:
    """Where the next element starts after this sign, or where the list ends."""
    at = _after_space(text, at)
    if text[at] == sign:
        return _after_space(text, at + 1)
    if text[at] != "]" or sign != ",":
        raise ValueError(f"there is no '{sign}'")
    return at


def _after_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _why(problem: Exception) -> str:
    """What a problem with a file says, in a few words."""
    if isinstance(problem, json.JSONDecodeError):
        return problem.msg
    if isinstance(problem, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(problem, IndexError):
        return "it ends within its list"
    return printable(getattr(problem, "strerror", None) or str(problem)).rstrip(".")


# ------------------------------------------------------------------------------------- in a folder


class _Stored(Sequence[Product]):
    """Products in a memory-mapped file, one a line; those read last are kept."""

    def __init__(self, folder: Path) -> None:
        self._offsets = np.load(folder / _OFFSETS, mmap_mode="r")
        with (folder / _LINES).open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._folder = folder
        self._product = lru_cache(_KEPT)(self._read)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, number: int) -> Product: ...
    @overload
    def __getitem__(self, number: slice) -> list[Product]: ...
    def __getitem__(self, number: int | slice) -> Product | list[Product]:
        if isinstance(number, slice):
            return [self._product(each) for each in range(*number.indices(len(self)))]
        return self._product(range(len(self))[number])

    def __iter__(self) -> Iterator[Product]:  # past the products that are kept
        return map(self._read, range(len(self)))

    def _read(self, number: int) -> Product:
        start, end = self._offsets[number : number + 2].tolist()
        try:
            return _product_of(json.loads(self._bytes[start:end]))
        except (ValueError, TypeError, AttributeError):
            raise _damaged(self._folder, f"product {number:,} cannot be read") from None


class _StoredNumbers(Mapping[str, int]):
    """The number of each product by its ASIN, in memory-mapped arrays that are sorted by it."""

    def __init__(self, folder: Path) -> None:
        self._asins = np.load(folder / _ASINS, mmap_mode="r").view(np.ndarray)
        self._order = np.load(folder / _ORDER, mmap_mode="r").view(np.ndarray)

    def __len__(self) -> int:
        return len(self._asins)

    def __iter__(self) -> Iterator[str]:
        return (asin.decode() for asin in self._asins.tolist())

    def __getitem__(self, asin: str) -> int:
        try:
            sought = asin.encode()
        except UnicodeEncodeError:
            raise KeyError(asin) from None
        if len(sought) <= self._asins.itemsize:
            place = int(self._asins.searchsorted(np.array(sought, self._asins.dtype)))
            if place < len(self) and self._asins[place] == sought:
                return int(self._order[place])
        raise KeyError(asin)


def _line(product: Product) -> bytes:
    """A product as it is kept and hashed."""
    content = [getattr(product, name) for name in _FIELDS]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


_FIELDS = tuple(field.name for field in fields(Product))


def _product_of(content: list[Any]) -> Product:
    """A product as it was before it was kept."""
    known = dict(zip(_FIELDS, content, strict=True))
    for name in ("bullets", "path", "prices", "attributes", "instruction_attributes"):
        known[name] = tuple(known[name])
    known["options"] = {group: tuple(values) for group, values in known["options"].items()}
    return Product(**known)


def _write_products(products: Iterable[Product], folder: Path) -> str:
    """All files but the manifest; gives the hash of the products."""
    digest, offsets, asins = hashlib.sha256(), [0], []
    with (folder / _LINES).open("wb") as file:
        for product in products:
            line = _line(product)
            digest.update(line)
            offsets.append(offsets[-1] + file.write(line))
            asins.append(product.asin.encode())
    if not asins:
        raise InvalidArgument("A catalogue needs at least one product, and has none.")
    names = np.array(asins)
    order = np.argsort(names, kind="stable").astype(np.int32)
    names = names[order]
    if (same := np.flatnonzero(names[1:] == names[:-1])).size:
        raise InvalidArgument(
            f"A catalogue names each product once, and {printable(names[same[0]].decode())} is "
            "there twice."
        )
    np.save(folder / _OFFSETS, np.array(offsets, np.int64))
    np.save(folder / _ASINS, names)
    np.save(folder / _ORDER, order)
    return digest.hexdigest()


def _write_manifest(
    folder: Path, name: str, sha256: str, products_sha256: str, notes: tuple[str, ...]
) -> None:
    about = {
        "schema": _SCHEMA, "recgym": __version__, "name": name, "sha256": sha256,
        "products_sha256": products_sha256, "fields": _FIELDS, "notes": notes,
        "bytes": {file: (folder / file).stat().st_size for file in _FILES},
    }  # fmt: skip
    about["manifest_sha256"] = sha256_of_json(about)
    write_whole(folder / _MANIFEST, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


_FILES = (_LINES, _OFFSETS, _ASINS, _ORDER)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadDataset(
            f"{folder} keeps no catalogue: it has no {_MANIFEST}. Read WebShop's files anew, or "
            "give another folder."
        ) from None
    except (OSError, ValueError, RecursionError) as problem:
        raise _damaged(folder, f"{_MANIFEST} cannot be read ({_why(problem)})") from None
    if not isinstance(about, dict) or about.get("schema") != _SCHEMA:
        found = about.get("schema") if isinstance(about, dict) else None
        raise BadDataset(
            f"The catalogue in {folder} has schema version {printable(repr(found))}, and this "
            f"recgym reads version {_SCHEMA}: read WebShop's files anew."
        )
    if about.pop("manifest_sha256", None) != sha256_of_json(about):
        raise _damaged(folder, f"{_MANIFEST} was changed after it was written")
    return about


def _damaged(folder: Path, fault: str) -> BadDataset:
    return BadDataset(
        f"The catalogue in {folder} is damaged: {fault}. Restore it from a copy, or read "
        "WebShop's files anew."
    )


def _sha256_of_file(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@contextmanager
def _replacing(folder: Path, replace: bool) -> Iterator[Path]:
    """A draft of a folder, which is replaced only where that is asked for."""
    if folder.exists() and not replace:
        raise InvalidArgument(f"{folder} is there already: name another folder, or replace it.")
    with whole_folder(folder, "The catalogue") as draft:
        yield draft
