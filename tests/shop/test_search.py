"""Searching a shop: Lucene's lengths, BM25 in closed form, what comes first, damaged folders."""

import hashlib
import json
import math
import re
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import BadDataset, InvalidArgument, MissingExtra, OutOfRoom
from recgym.shop import search
from recgym.shop.analysis import analysed
from recgym.shop.catalogue import Product, catalogue_of, read_webshop
from recgym.shop.generated import minishop, minishop_b
from recgym.shop.goals import synthetic_goals
from recgym.shop.search import Index, rounded, text_of

bm25s = pytest.importorskip("bm25s")


STOPPED = "the their then there these they this to was will with a an and are as at be but by"


def product(name="", description="", bullets=(), options=None, asin="A"):
    return Product(
        asin=asin, name=name, description=description, bullets=tuple(bullets), category="",
        query="", path=(), options=options or {}, prices=(), price=100.0, attributes=(),
    )  # fmt: skip


def catalogue(names):
    return catalogue_of("few", [product(name, asin=f"A{at}") for at, name in enumerate(names)])


@pytest.fixture
def index_of(tmp_path):
    """Builds the index of some names."""

    def build(names, folder="index"):
        return Index.build(catalogue(names), tmp_path / folder)

    return build


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An index on disk, its catalogue and its files."""
    known = catalogue(["red shoes", "blue shoes for running", "red hat"])
    folder = tmp_path_factory.mktemp("kept") / "index"
    Index.build(known, folder)
    return known, folder


@pytest.fixture
def copied(kept, tmp_path):
    """The same, to be damaged."""
    import shutil

    shutil.copytree(kept[1], tmp_path / "index")
    return kept[0], tmp_path / "index"


def test_what_is_searched_are_name_description_first_bullet_and_options():
    one = product(
        "A Name", "Of this.", ["First", "second"], {"color": ("red", "blue"), "size": ("s",)}
    )
    assert text_of(one) == "A Name Of this. First color: red, blue, and size: s"
    assert text_of(product("A Name")) == "A Name   "


# ------------------------------------------------------------------------------- Lucene's lengths


def test_lengths_are_rounded_down_to_what_a_byte_holds():
    """The 256 values of Lucene's SmallFloat.byte4ToInt: 24 small ones, then 24 and m 2^e."""
    values = list(range(24))
    for code in range(256 - 24):
        mantissa, exponent = code & 7, (code >> 3) - 1
        values.append(24 + (mantissa if exponent < 0 else (mantissa | 8) << exponent))
    assert values == sorted(set(values)) and len(values) == 256
    assert values[-1] == 2_013_265_944  # as decoding 255 gives
    lengths = np.arange(20_000)
    known = np.array(values)
    assert (rounded(lengths) == known[np.searchsorted(known, lengths, "right") - 1]).all()


@pytest.mark.parametrize(
    ("length", "kept"),
    [(0, 0), (23, 23), (39, 39), (40, 40), (41, 40), (56, 56), (59, 56), (100, 96), (1000, 984)],
)
def test_some_lengths_worked_out_by_hand(length, kept):
    assert rounded(np.array([length])) == [kept]


# -------------------------------------------------------------------------------------- its scores


def by_hand(names, query):
    """BM25 with k1 = 0.9 and b = 0.4, in closed form, product by product."""
    texts = [Counter(analysed(name)) for name in names]
    lengths = [sum(text.values()) for text in texts]
    known = sum(length > 0 for length in lengths)
    mean = sum(lengths) / max(known, 1)
    scores = []
    for text, length in zip(texts, lengths, strict=True):
        score = 0.0
        for term in analysed(query):
            df = sum(term in other for other in texts)
            if tf := text[term]:
                dl = int(rounded(np.array([length]))[0])
                idf = math.log(1 + (known - df + 0.5) / (df + 0.5))
                score += idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * dl / mean))
        scores.append(score)
    return scores


def test_a_score_worked_out_by_hand(index_of):
    """Of 3, 4 and 1 terms, on average 8/3; "shoe" is in two products, "red" twice in the first."""
    index = index_of(["red red shoes", "blue shoes running fast", "hat", ""])
    norm = 0.9 * (0.6 + 0.4 * 3 / (8 / 3))
    shoe, red = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    expected = shoe * 1 / (1 + norm) + red * 2 / (2 + norm)
    assert index.scores("red shoe")[0] == pytest.approx(expected, rel=1e-6)
    assert index.scores("hat")[3] == 0
    assert index.search("red shoes").tolist() == [0, 1]


WORDS = st.sampled_from(
    ["red", "blue", "hat", "shoes", "for", "running", "men's", "x-large", "13.5oz", "running"]
)
NAMES = st.lists(st.lists(WORDS, max_size=70).map(" ".join), min_size=1, max_size=12)


@settings(max_examples=60)
@given(NAMES, st.lists(WORDS, max_size=6).map(" ".join))
def test_scores_are_the_closed_form(tmp_path_factory, names, query):
    index = Index.build(catalogue(names), tmp_path_factory.mktemp("index") / "index")
    found = index.scores(query)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(names, query), rtol=2e-6, atol=1e-7)


def test_scores_are_those_of_bm25s_where_lengths_are_exact(index_of):
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(40)]
    names = [" ".join(rng.choice(words, rng.integers(1, 39))) for _ in range(60)]
    index = index_of(names)
    theirs = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    theirs.index([analysed(name) for name in names], show_progress=False)
    for query in ("w1", "w2 w2 w3", " ".join(words)):
        np.testing.assert_allclose(
            index.scores(query), theirs.get_scores(analysed(query)), rtol=1e-5
        )


def test_long_products_are_scored_by_their_rounded_length(index_of):
    """200 and 207 terms are as long to Lucene, and 199 is shorter."""
    names = [" ".join(["red", *["hat"] * (length - 1)]) for length in (207, 200, 199)]
    first, second, third = index_of(names).scores("red")
    assert first == second < third


def test_bm25s_opens_the_folder_and_gives_the_same_scores(kept):
    known, folder = kept
    index, theirs = Index.open(folder, known.sha256), bm25s.BM25.load(folder, mmap=True)
    assert theirs.method == "lucene" and (theirs.k1, theirs.b) == (0.9, 0.4)
    for query in ("red", "red red shoes", "running hat unknown"):
        np.testing.assert_allclose(
            index.scores(query), theirs.get_scores(analysed(query)), rtol=1e-6
        )


def test_a_term_that_comes_twice_counts_twice_and_long_queries_add_up(index_of):
    rng = np.random.default_rng(1)
    words = [f"w{number}" for number in range(100)]
    index = index_of([" ".join(rng.choice(words, 50)) for _ in range(30)])
    np.testing.assert_allclose(index.scores("w1 w1 w1"), 3 * index.scores("w1"), rtol=1e-6)
    together = sum(index.scores(word).astype(float) for word in words)
    np.testing.assert_allclose(index.scores(" ".join(words)), together, rtol=1e-6)
    assert index.scores("unknown").sum() == index.scores("").sum() == 0


@settings(max_examples=60)
@given(NAMES, st.lists(WORDS, max_size=40).map(" ".join))
def test_small_and_large_shops_add_up_the_same(tmp_path_factory, names, query):
    index = Index.build(catalogue(names), tmp_path_factory.mktemp("index") / "index")
    with pytest.MonkeyPatch.context() as patch:
        in_one_go = index.scores(query)
        patch.setattr(search, "_FEW", 0)
        assert (index.scores(query) == in_one_go).all()


# ---------------------------------------------------------------------------------- what is found


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 2000))
def test_the_best_come_first_and_ties_go_by_number(tmp_path_factory, seed, most, size):
    rng = np.random.default_rng(seed)
    names = [" ".join(rng.choice(["red", "blue", "hat", "sun"], rng.integers(0, 4)))
             for _ in range(size)]  # fmt: skip
    index = Index.build(catalogue(names), tmp_path_factory.mktemp("index") / "index")
    scores = index.scores("red hat").tolist()
    expected = sorted((number for number in range(size) if scores[number] > 0),
                      key=lambda number: (-scores[number], number))  # fmt: skip
    found = index.search("red hat", most)
    assert found.dtype == np.int32
    assert found.tolist() == expected[:most]


@pytest.mark.parametrize(
    "query",
    ["", " ", "\n\t", STOPPED, "unknown", "x" * 10_000, "the " * 2_500, "🔥", "\ud800", "日本",
     "<r>", "%s{}[]", "\0"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(kept, query):
    known, folder = kept
    assert Index.open(folder, known.sha256).search(query).tolist() == []


@settings(max_examples=300)
@given(st.text() | st.lists(WORDS, max_size=2000).map(" ".join))
def test_no_query_raises(kept, query):
    known, folder = kept
    found = Index.open(folder, known.sha256).search(query)
    assert len(set(found.tolist())) == len(found) <= 3


def test_at_most_fifty_are_found_unless_more_are_asked_for(index_of):
    index = index_of(["red"] * 120)
    assert index.search("red").tolist() == list(range(50))
    assert len(index.search("red", 1000)) == 120
    assert index.search("red", 0).tolist() == index.search("red", -1).tolist() == []


def test_products_without_words_are_no_obstacle(index_of):
    index = index_of(["", "--", ""])
    assert index.size == 3
    assert index.search("red").tolist() == []


@pytest.mark.parametrize(
    ("shop", "digest"),
    [
        (minishop, "35b686b18b10dd0e5070b4881179ef72c745b7696ed403e2a7895828f5bf182e"),
        (minishop_b, "b6cbdbec21f7b25ee2849c5678b42ac60a753aa492c592824fc0ea711a4e4883"),
    ],
)
def test_all_rankings_are_lucenes(shop, digest, tmp_path):
    """Digests of what Anserini 0.14.3 (of pyserini 0.17, which WebShop uses) has found.

    IndexCollection of {"id": asin, "contents": text_of(product).lower()}, then SearchCollection
    -bm25 -bm25.k1 0.9 -bm25.b 0.4 -hits 50 of all goals' texts and all names: lists of ASINs, which
    Anserini also breaks ties by.
    """
    known = shop()
    index = Index.build(known, tmp_path / "index")
    queries = [goal.text for goal in synthetic_goals(known)] + [p.name for p in known.products]
    asins = np.array([product.asin for product in known.products])
    found = []
    for query in queries:
        scores = index.scores(query)
        order = np.lexsort((asins, -scores))[:50]
        found.append(asins[order[scores[order] > 0]].tolist())
    assert len(found) == 2004
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest() == digest


def test_products_of_webshop_are_found_by_their_names(samples, tmp_path):
    known = read_webshop(samples / "webshop-1k")
    index = Index.build(known, tmp_path / "index")
    found = [number in index.search(one.name) for number, one in enumerate(known.products)]
    assert np.mean(found) >= 0.999
    queries = json.loads((samples / "webshop-1k" / "goal_query_map.json").read_text("utf-8"))
    assert all(len(index.search(typed)) for some in queries.values() for typed in some[:1] if typed)


# ----------------------------------------------------------------------------------- how it is kept


def test_arrays_are_mapped_from_disk(kept):
    known, folder = kept
    index = Index.open(folder, known.sha256)
    for values in (index._products, index._scores):
        assert isinstance(values.base, np.memmap)
        assert not values.flags.writeable


def test_an_index_is_the_same_whenever_and_in_however_many_chunks_it_is_built(
    kept, tmp_path, monkeypatch
):
    known, folder = kept
    steps = []
    for chunk in (1 << 22, 1, 3):
        monkeypatch.setattr(search, "_CHUNK", chunk)
        Index.build(known, tmp_path / "index", lambda what, share: steps.append((what, share)))
        for file in sorted(folder.iterdir()):
            assert (tmp_path / "index" / file.name).read_bytes() == file.read_bytes(), file.name
    assert ("reading products", 1 / 3) in steps
    assert all(0 <= share <= 1 for _, share in steps)


def test_products_may_be_read_only_once_and_in_order(tmp_path):
    class Lazy(list):
        def __iter__(self):
            assert not self.read, "they were read twice"
            self.read = True
            return super().__iter__()

    names = ["red hat", "blue hat"]
    products = Lazy(catalogue(names).products)
    products.read = False
    known = search.Catalogue("lazy", products, "0" * 64)
    assert Index.build(known, tmp_path / "index").search("blue").tolist() == [1]


def test_a_build_that_fails_leaves_what_was_there(copied):
    known, folder = copied

    def broken():
        yield product("red")
        raise KeyboardInterrupt

    class Broken(list):
        def __iter__(self):
            return broken()

    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        Index.build(search.Catalogue("broken", Broken([1, 2]), "1" * 64), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["index"]
    assert Index.open(folder, known.sha256, verify=True).search("hat").tolist() == [2]


def test_a_folder_that_cannot_be_written_is_one_sentence(kept, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutOfRoom, match="could not be written to .*nothing was changed"):
        Index.build(kept[0], tmp_path / "file" / "index")


def test_nothing_can_be_searched_in_nothing(tmp_path):
    with pytest.raises(InvalidArgument, match="at least one product"):
        Index.build(search.Catalogue("none", [], ""), tmp_path / "index")


def sentence(problem):
    text = str(problem.value)
    assert "\n" not in text and text.endswith(".") and len(re.findall(r"\. [A-Z]", text)) <= 1
    return text


def test_an_index_of_another_catalogue_is_refused(kept):
    with pytest.raises(BadDataset, match="of another catalogue .few, .* build it anew") as problem:
        Index.open(kept[1], "0" * 64)
    sentence(problem)


@pytest.mark.parametrize(
    "name",
    ["data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "vocab.index.json",
     "params.index.json", "manifest.json"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "longer", "changed", "missing", "empty"])
def test_damage_is_one_sentence(copied, name, damage):
    known, folder = copied
    file = folder / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        file.write_bytes(
            {"cut": content[:-7], "longer": content + b"0", "changed": changed, "empty": b""}[
                damage
            ]
        )
    with pytest.raises(BadDataset, match="uild (it anew|one)") as problem:
        Index.open(folder, known.sha256)
    sentence(problem)


def test_large_files_are_known_by_their_size_unless_they_are_verified(copied, monkeypatch):
    known, folder = copied
    monkeypatch.setattr(search, "_HASHED", 0)
    file = folder / "data.csc.index.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    Index.open(folder, known.sha256)
    with pytest.raises(BadDataset, match="was changed after"):
        Index.open(folder, known.sha256, verify=True)


@pytest.mark.parametrize("about", ["[]", '{"schema": 0}', '{"schema": "\\u001b[1m"}', "{}", '"'])
def test_manifests_of_other_versions_are_refused_by_name(copied, about):
    known, folder = copied
    (folder / "manifest.json").write_text(about)
    with pytest.raises(BadDataset, match="schema version|damaged") as problem:
        Index.open(folder, known.sha256)
    assert sentence(problem).isprintable()


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_index_is_said(kept, tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadDataset, match="has no index of products"):
        Index.open(tmp_path / name, kept[0].sha256)


def test_what_the_shop_needs_is_named_where_it_is_missing(kept, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=re.escape("recgym[shop]")):
        Index.build(kept[0], tmp_path / "index")
    assert not any(tmp_path.iterdir())
