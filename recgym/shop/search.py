"""Products by the words of a query: BM25 as Lucene computes it, over arrays mapped from disk.

As pyserini's searcher with its defaults, in the same steps and precision: Lucene rounds the length
of a document down to what a byte holds, and adds up in double what it computes in single precision.
Only ties differ: there the product that comes first in the catalogue is the first one. The score of
each term in each product is worked out when an index is built; bm25s opens the folder, too.
"""

import hashlib
import json
import os
import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgym import __version__
from recgym.errors import BadDataset, InvalidArgument, MissingExtra, printable
from recgym.home import whole_folder
from recgym.log import sha256_of_json
from recgym.shop.analysis import analysed
from recgym.shop.catalogue import Catalogue, Product

K1, B = 0.9, 0.4  # pyserini's
MOST = 50  # products that a search finds
Progress = Callable[[str, float | None], None]
_SCORES, _PRODUCTS, _STARTS, _TERMS, _PARAMETERS = _FILES = (  # as bm25s names them
    "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "vocab.index.json",
    "params.index.json",
)  # fmt: skip
_MANIFEST, _SCHEMA = "manifest.json", 1
_CHUNK = 1 << 22  # words that are counted at once
_HASHED = 1 << 26  # bytes of a file: larger ones are known by their size only, unless asked
_FEW = 20_000  # products of a shop in which all terms of a query are added up in one go
_BLOCKS = 256  # of products, of which the best is compared first


class Index:
    """The products of a catalogue by their terms, read from disk when asked for."""

    def __init__(
        self,
        terms: dict[str, int],
        starts: NDArray[np.int64],
        products: NDArray[np.int32],
        scores: NDArray[np.float32],
        size: int,
    ) -> None:
        """Those of term t are products[starts[t]:starts[t + 1]], in order, with their scores."""
        self.size = size  # products of the catalogue
        self._terms, self._products, self._scores = terms, products, scores
        self._starts = starts.data  # as Python's own numbers, which are read faster
        self._blocks = np.arange(0, size, -(-size // _BLOCKS))

    analysed = staticmethod(analysed)

    @classmethod
    def build(
        cls,
        catalogue: Catalogue,
        folder: str | os.PathLike[str],
        progress: Progress = lambda what, share: None,
    ) -> "Index":
        """Write the index of a catalogue to a folder, which has it whole or not at all."""
        folder, size = Path(folder), len(catalogue.products)
        if not size:
            raise InvalidArgument("An index needs at least one product, and there is none.")
        with whole_folder(folder, "The index") as draft:
            _write(map(text_of, catalogue.products), size, draft, progress)
            _write_manifest(draft, catalogue)
        return cls.open(folder, catalogue.sha256)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], catalogue_sha256: str, *, verify: bool = False
    ) -> "Index":
        """The index in a folder, if it is of this catalogue; `verify` reads all of it once."""
        folder = Path(folder)
        about = _read_manifest(folder)
        if about["catalogue_sha256"] != catalogue_sha256:
            raise BadDataset(
                f"The index in {folder} is of another catalogue "
                f"({printable(about['catalogue'])}, or of other products): build it anew."
            )
        for name, (size, sha256) in about["files"].items():
            _check(folder / name, size, sha256, verify)
        try:
            terms = json.loads((folder / _TERMS).read_text(encoding="utf-8"))
            arrays = (np.load(folder / name, mmap_mode="r") for name in _FILES[2::-1])
            starts, products, scores = (values.view(np.ndarray) for values in arrays)
        except (OSError, ValueError) as problem:
            raise _damaged(folder, printable(str(problem)).rstrip(".")) from None
        return cls(terms, starts, products, scores, about["products"])

    def search(self, query: str, most: int = MOST) -> NDArray[np.int32]:
        """Numbers of the products that have terms of a query, best first, ties by number."""
        scores = self.scores(query)
        least, most = np.float32(0), max(most, 0)
        if 0 < most < len(self._blocks):  # there are so many at least that are as good as this
            blocks = np.maximum.reduceat(scores, self._blocks)
            least = np.partition(blocks, -most)[-most]
        found = np.flatnonzero(scores >= least if least else scores)
        return found[np.argsort(-scores[found], kind="stable")[:most]].astype(np.int32)

    def scores(self, query: str) -> NDArray[np.float32]:
        """What BM25 gives each product for a query; a term counts as often as it comes."""
        terms = self._terms
        times = Counter([terms[term] for term in analysed(query) if term in terms])
        if not times:
            return np.zeros(self.size, np.float32)
        spans = [slice(self._starts[term], self._starts[term + 1]) for term in times]
        products = [self._products[span] for span in spans]
        scores = [self._scores[span] if many == 1 else self._scores[span] * many
                  for span, many in zip(spans, times.values(), strict=True)]  # fmt: skip
        if self.size <= _FEW:  # there a call costs more than a copy
            together = np.concatenate(products), np.concatenate(scores)
            return np.bincount(*together, self.size).astype(np.float32)
        total = np.zeros(self.size)
        for which, some in zip(products, scores, strict=True):
            np.add.at(total, which, some.astype(np.float64))
        return total.astype(np.float32)


def text_of(product: Product) -> str:
    """What a product is searched by: name, description, first bullet point and options."""
    options = ", and ".join(f"{group}: {', '.join(v)}" for group, v in product.options.items())
    return " ".join((product.name, product.description, *(product.bullets or ("",))[:1], options))


# ---------------------------------------------------------------------------------- how it is built


def _write(texts: Iterable[str], size: int, folder: Path, progress: Progress) -> None:
    """All files but the manifest, in memory for a chunk of all words and for each product."""
    try:
        import bm25s
    except ImportError:
        raise MissingExtra("The shop", "shop") from None
    scratch = folder / "scratch"
    scratch.mkdir()
    terms: defaultdict[str, int] = defaultdict(count().__next__)
    lengths = array("q")  # of each product, in terms
    chunks: list[Path] = []
    for rows in _counted(texts, terms, lengths):
        progress("reading products", len(lengths) / size)
        chunks.append(scratch / f"{len(chunks)}.npy")
        np.save(chunks[-1], rows)
    kept = bm25s.BM25(k1=K1, b=B, method="lucene")
    starts, products, scores = _scored(chunks, len(terms), np.array(lengths), scratch, progress)
    kept.scores = {"data": scores, "indices": products, "indptr": starts, "num_docs": size}
    kept.vocab_dict, kept.nonoccurrence_array = dict(terms), None
    kept.save(folder)
    shutil.rmtree(scratch)


_ROW = np.dtype([("term", np.int32), ("product", np.int32), ("times", np.int32)])


def _counted(
    texts: Iterable[str], terms: Mapping[str, int], lengths: "array[int]"
) -> Iterator[NDArray[Any]]:
    """How often each term is in each text, sorted by term, then by text, for a chunk at a time."""
    words, begun = array("i"), 0
    for text in texts:
        found = analysed(text)
        lengths.append(len(found))
        words.extend(map(terms.__getitem__, found))
        if len(words) >= _CHUNK:
            yield _rows(words, lengths, begun)
            words, begun = array("i"), len(lengths)
    yield _rows(words, lengths, begun)


def _rows(words: "array[int]", lengths: "array[int]", begun: int) -> NDArray[Any]:
    """A chunk: the words of all texts from that one on."""
    of = np.repeat(np.arange(begun, len(lengths)), lengths[begun:])
    keys = np.sort(np.array(words, np.int64) << 32 | of)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    rows = np.empty(len(first), _ROW)
    rows["term"], rows["product"] = keys[first] >> 32, keys[first] & 0xFFFFFFFF
    rows["times"] = np.diff(first, append=len(keys))
    return rows


def _scored(
    chunks: list[Path], known: int, lengths: NDArray[np.int64], scratch: Path, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Where the products of each term start, these products, and the scores of the term in them."""
    frequencies = np.zeros(known, np.int64)  # products that have each term
    for chunk in chunks:
        frequencies += np.bincount(np.load(chunk)["term"], minlength=known)
    starts = np.concatenate(([0], np.cumsum(frequencies)))
    products, scores = (
        np.lib.format.open_memmap(scratch / f"{name}.npy", "w+", dtype, (max(int(starts[-1]), 1),))
        for name, dtype in (("products", np.int32), ("scores", np.float32))
    )  # what is empty cannot be mapped
    weights, inverses = _weights(frequencies, lengths), _inverses(lengths)
    heads = starts[:-1].copy()  # where the next product of each term goes
    for done, chunk in enumerate(chunks):
        progress("scoring terms", done / len(chunks))
        rows = np.load(chunk)
        term, product = rows["term"], rows["product"]
        first = np.flatnonzero(np.diff(term, prepend=-1))
        sizes = np.diff(first, append=len(term))
        places = np.repeat(heads[term[first]] - first, sizes) + np.arange(len(term))
        heads[term[first]] += sizes
        weight, times = weights[term], rows["times"].astype(np.float32)
        products[places] = product
        scores[places] = weight - weight / (1 + times * inverses[product])
    return starts, products, scores


def _weights(frequencies: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """The inverse document frequency of each term; products without any term do not count."""
    known = np.count_nonzero(lengths)
    rarity: NDArray[np.float64] = np.log(1 + (known - frequencies + 0.5) / (frequencies + 0.5))
    return rarity.astype(np.float32)


def _inverses(lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 / (k1 (1 - b + b length / mean length)) of each product, in the steps that Lucene takes."""
    one, k1, b = np.float32(1), np.float32(K1), np.float32(B)
    mean = np.float32(max(lengths.sum(), 1) / max(np.count_nonzero(lengths), 1))
    return one / (k1 * ((one - b) + b * rounded(lengths).astype(np.float32) / mean))


def rounded(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths as Lucene keeps them: to 39 exactly, then 24 and four binary digits of the rest."""
    rest = np.maximum(lengths - 24, 0)
    digits = np.frexp(rest.astype(np.float64))[1]  # that they have
    shift = np.maximum(digits - 4, 0)
    kept: NDArray[np.int64] = np.minimum(lengths, 24) + (rest >> shift << shift)
    return kept


# ----------------------------------------------------------------------------------- how it is kept


def _write_manifest(folder: Path, catalogue: Catalogue) -> None:
    files = {name: ((folder / name).stat().st_size, _sha256(folder / name)) for name in _FILES}
    about = {
        "schema": _SCHEMA, "recgym": __version__, "k1": K1, "b": B, "files": files,
        "products": len(catalogue.products), "catalogue": catalogue.name,
        "catalogue_sha256": catalogue.sha256,
    }  # fmt: skip
    about["manifest_sha256"] = sha256_of_json(about)
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (folder / _MANIFEST).write_text(text, encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BadDataset(
            f"{folder} has no index of products: it has no {_MANIFEST}. Build one, or give another "
            "folder."
        ) from None
    except (OSError, ValueError, RecursionError):
        raise _damaged(folder, f"{_MANIFEST} cannot be read") from None
    if not isinstance(about, dict) or about.get("schema") != _SCHEMA:
        found = about.get("schema") if isinstance(about, dict) else None
        raise BadDataset(
            f"The index in {folder} has schema version {printable(repr(found))}, and this recgym "
            f"reads version {_SCHEMA}: build it anew."
        )
    if about.pop("manifest_sha256", None) != sha256_of_json(about):
        raise _damaged(folder, f"{_MANIFEST} was changed after it was written")
    return about


def _check(file: Path, size: int, sha256: str, verify: bool) -> None:
    """Is a file as it was written?"""
    if not file.is_file():
        raise _damaged(file.parent, f"{file.name} is missing")
    if (found := file.stat().st_size) != size:
        raise _damaged(file.parent, f"{file.name} has {found:,} bytes and not {size:,}")
    if (verify or size <= _HASHED) and _sha256(file) != sha256:
        raise _damaged(file.parent, f"{file.name} was changed after it was written")


def _damaged(folder: Path, fault: str) -> BadDataset:
    return BadDataset(f"The index in {folder} is damaged: {fault}. Build it anew.")


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
