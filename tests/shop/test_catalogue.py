"""Catalogues: WebShop's files as they are and as they may be, and folders of products."""

import json
import math
import os
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.errors import BadDataset, BadRawData, InvalidArgument, OutOfRoom
from recgym.shop import catalogue as module
from recgym.shop.catalogue import (
    NO_PRICE,
    Catalogue,
    Product,
    catalogue_of,
    keep_webshop,
    open_catalogue,
    price_of,
    read_webshop,
    share_of,
    write_catalogue,
)

from ..sentences import said


def row(asin="B000000001", **others):
    return {
        "asin": asin, "name": "Soft Socks", "full_description": "Warm.", "category": "fashion",
        "small_description": ["Wool ", "Red"], "query": " Socks ", "page": 1, "pricing": "$5.99",
        "product_category": "Clothing › Socks", "images": ["https://x.test/1.jpg"],
        "customization_options": {"Size": [{"value": " S/M "}, {"value": "L"}], "Color": None},
        "average_rating": "",
    } | others  # fmt: skip


def about(**others):
    return {"attributes": ["soft"], "instruction": "Find me soft socks",
            "instruction_attributes": ["soft"]} | others  # fmt: skip


def shop(folder, rows, known=None, end=""):
    """WebShop's two files in a folder."""
    known = {each["asin"]: about() for each in rows if each.get("asin")} if known is None else known
    (folder / f"items_shuffle{end}.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / f"items_ins_v2{end}.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


def read(folder, rows, known=None):
    return read_webshop(shop(folder, rows, known))


def refused(error, call, *given, **options):
    with pytest.raises(error) as problem:
        call(*given, **options)
    return said(problem)


# -------------------------------------------------------------------------------------- as they are


@pytest.fixture(scope="module")
def official(samples):
    return read_webshop(samples / "webshop-1k")


def test_the_official_products_are_read_as_webshops_code_reads_them(official, samples):
    rows = json.loads((samples / "webshop-1k" / "items_shuffle_1000.json").read_text())
    known = json.loads((samples / "webshop-1k" / "items_ins_v2_1000.json").read_text())
    assert official.name == "webshop-1k" and len(official.products) == 1000
    assert official.notes == ("Products without a title: 1.",)
    assert sum(bool(product.instruction) for product in official.products) == 415
    for product, one in zip(official.products, rows, strict=True):
        assert (product.asin, product.name, product.description, product.query) == (
            one["asin"], one["name"], one["full_description"], one["query"],
        )  # fmt: skip
        texts = one["small_description"]
        texts = texts if isinstance(texts, list) else [texts]
        assert list(product.bullets) == [text for text in texts if text]
        assert " › ".join(product.path) == one["product_category"]
        assert "".join(f"${price}" for price in product.prices) == one["pricing"]
        assert min(product.prices) <= product.price <= max(product.prices)
        assert product.image == one["images"][0]
        values = [
            value["value"].replace("/", " | ").lower()
            for values in (one["customization_options"] or {}).values() for value in values or ()
        ]  # fmt: skip
        assert [each for group in product.options.values() for each in group] == values
        assert list(product.attributes) == known[one["asin"]]["attributes"]
    ranges = [product for product in official.products if len(product.prices) == 2]
    assert len(ranges) == 93 and len({product.price for product in ranges}) > 80
    assert Counter(len(product.prices) for product in official.products) == {1: 907, 2: 93}


def test_a_product_is_read_field_by_field(tmp_path):
    read_one = read(tmp_path, [row()])
    assert read_one.products == [
        Product(
            asin="B000000001", name="Soft Socks", description="Warm.", bullets=("Wool ", "Red"),
            category="fashion", query="socks", path=("Clothing", "Socks"),
            options={"size": ("s | m", "l")}, prices=(5.99,), price=5.99, attributes=("soft",),
            instruction="Find me soft socks", instruction_attributes=("soft",),
            image="https://x.test/1.jpg",
        )
    ]  # fmt: skip
    assert read_one.name == "webshop" and read_one.notes == ()
    assert read_one.number("B000000001") == 0 and read_one.number("b000000001") == -1


def test_files_are_found_by_folder_by_name_or_one_by_one(tmp_path):
    shop(tmp_path, [row("A")], end="_1000")
    assert read_webshop(str(tmp_path)).name == "webshop-1k"
    shop(tmp_path, [row("A"), row("B")])
    assert "name one of them" in refused(BadRawData, read_webshop, tmp_path)
    assert read_webshop(tmp_path / "items_shuffle.json").number("B") == 1
    assert read_webshop(tmp_path / "items_shuffle_1000.json").number("B") == -1
    (tmp_path / "mine").mkdir()
    mine = (tmp_path / "items_shuffle.json").rename(tmp_path / "mine" / "items_shuffle_9.json")
    assert "no items_ins_v2*.json" in refused(BadRawData, read_webshop, mine)
    by_name = read_webshop(mine, tmp_path / "items_ins_v2.json")
    assert by_name.name == "webshop-9" and len(by_name.products) == 2
    other = (tmp_path / "items_ins_v2.json").rename(tmp_path / "mine" / "items_ins_v2.json")
    assert len(read_webshop(mine).products) == 2 and other.exists()  # beside it, though not of it
    assert "is not there" in refused(BadRawData, read_webshop, tmp_path / "none")
    assert "is not there" in refused(BadRawData, read_webshop, mine, tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    assert "it has nothing" in refused(BadRawData, read_webshop, tmp_path / "empty")


# ------------------------------------------------------------------------------------------- prices


@pytest.mark.parametrize(
    ("printed", "prices"),
    [("$5.99", (5.99,)), ("$1,299.00", (1299.0,)), ("$19.99$27.99", (19.99, 27.99)),
     ("$19.99 to $27.99", (19.99, 27.99)), ("$1$2$3", (1.0, 2.0)), ("12.5", (12.5,)), (7, (7.0,)),
     ("", ()), (None, ()), ("$", ()), ("$1.2.3", ()), ("free", ()), (math.nan, ()), ({}, ()),
     ("$" + "9" * 400, ()), ("$٣", ())],
)  # fmt: skip
def test_prices_are_read_as_printed(tmp_path, printed, prices):
    product = read(tmp_path, [row(pricing=printed)]).products[0]
    assert product.prices == prices
    assert product.price == NO_PRICE if not prices else min(prices) <= product.price <= max(prices)


@given(st.text(max_size=10), st.floats(0, 1000), st.floats(0, 1000))
def test_the_price_of_a_range_is_in_it_and_never_changes(asin, one, other):
    price = price_of(asin, (one, other))
    assert min(one, other) - 0.005 <= price <= max(one, other) + 0.005
    assert price == price_of(asin, (one, other, 5000.0))


def test_prices_of_a_range_are_even_and_the_same_on_every_machine():
    prices = sorted(price_of(f"B{number}", (10.0, 20.0)) for number in range(4000))
    assert all(abs((price - 10) / 10 - k / 4000) < 0.03 for k, price in enumerate(prices))
    assert [price_of(asin, (10.0, 20.0)) for asin in ("A", "B", "B000000001")] == [
        18.32, 18.75, 10.91,
    ]  # fmt: skip
    assert share_of("a", "b") != share_of("ab") and share_of(1, "b") == share_of("1", "b")


# ----------------------------------------------------------------------------------- as they may be


def test_rows_that_lack_things_are_products_all_the_same(tmp_path):
    bare = read(tmp_path, [{"asin": "A"}, row("B")], {"B": about()})
    assert bare.products[0] == Product("A", "", "", (), "", "", (), {}, (), NO_PRICE, ())
    assert bare.notes == (
        "Products of which items_ins_v2.json says nothing: 1.",
        "Products without a price that can be read, which cost 100.00: 1.",
        "Products without a title: 1.",
    )


@pytest.mark.parametrize("nothing", [None, "", math.nan, [], {}, True])
def test_a_field_without_a_text_is_empty(tmp_path, nothing):
    gaps = dict.fromkeys(
        ["name", "full_description", "small_description", "category", "query", "product_category",
         "customization_options", "images", "pricing"], nothing,
    )  # fmt: skip
    known = dict.fromkeys(["attributes", "instruction", "instruction_attributes"], nothing)
    product = read(tmp_path, [row("A", **gaps)], {"A": known}).products[0]
    assert product == Product("A", "", "", (), "", "", (), {}, (), NO_PRICE, ())


def test_the_first_of_rows_with_one_asin_counts(tmp_path):
    rows = [row("A"), row("A", name="Second"), row("a", name="Third"), row("B")]
    twice = read(tmp_path, rows)
    assert [product.name for product in twice.products] == ["Soft Socks"] * 2
    assert twice.notes == ("Rows that repeat an ASIN, left out: the first one counts: 2.",)


def test_rows_without_an_asin_are_left_out_and_counted(tmp_path):
    wrong = ["", "nan", "B0000000012", None, math.nan, {}, "A\0", "A\nB"]
    rows = [row(asin) for asin in wrong] + [None, 3, "B", ["A"], row("A")]
    left = read(tmp_path, rows, {"A": about()})
    assert [product.asin for product in left.products] == ["A"]
    assert left.notes == ("Rows without an ASIN of at most 10 characters, left out: 12.",)


def test_options_of_every_shape(tmp_path):
    options = {
        "Color ": [{"value": "Red/Blue", "price": 3}, {"value": "  "}, {}, None, {"value": 7}],
        "COLOR": [{"value": "Green"}], "Size": None, "Style": [], "Fit": "wide", "Age": ["5"],
    }  # fmt: skip
    found = read(tmp_path, [row(customization_options=options)])
    assert found.products[0].options == {"color": ("red | blue", "7", "green"), "age": ("5",)}
    assert list(found.products[0].options) == ["color", "age"]
    assert found.notes == ("Values of options without a text, left out: 3.",)


def test_a_text_instead_of_a_list_is_one_bullet(tmp_path):
    assert read(tmp_path, [row(small_description="One")]).products[0].bullets == ("One",)


def test_html_and_unicode_are_text_and_stay_as_they_are(tmp_path):
    text = "<b>5&nbsp;&lt; 6</b><script>x()</script> ☂ Größe 木 \U0001f9e6 \u202e\0\x1b[31m"
    found = read(tmp_path, [row(name=text, customization_options={"<i>": [{"value": text}]})])
    write_catalogue(found, tmp_path / "kept")
    for product in (found.products[0], open_catalogue(tmp_path / "kept").products[0]):
        assert product.name == text
        assert product.options == {"<i>": (text.strip().replace("/", " | ").lower(),)}


def test_half_a_character_is_replaced(tmp_path):
    assert read(tmp_path, [row(name="a\ud83db \U0001f600")]).products[0].name == "a�b \U0001f600"


def test_a_byte_order_mark_and_tabs_in_texts_are_no_fault(tmp_path):
    shop(tmp_path, [row()])
    for name in ("items_shuffle.json", "items_ins_v2.json"):
        text = (tmp_path / name).read_text().replace("Soft Socks", "Soft\tSocks")
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert read_webshop(tmp_path).products[0].name == "Soft\tSocks"


# ------------------------------------------------------------------------------ what cannot be read


def test_a_file_that_is_cut_anywhere_is_one_sentence(tmp_path):
    shop(tmp_path, [row("A"), row("B", name="☂")])
    for name in ("items_shuffle.json", "items_ins_v2.json"):
        file = tmp_path / name
        whole = file.read_bytes()
        for end in range(len(whole)):
            file.write_bytes(whole[:end])
            assert "Download it again" in refused(BadRawData, read_webshop, tmp_path)
        file.write_bytes(whole)
    assert len(read_webshop(tmp_path).products) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no list of products from row 1 on"),
        ('{"A": {"asin": "A"}}', "no list of products from row 1 on"),
        ('[{"asin": "A"} {"asin": "B"}]', "no list of products from row 2 on"),
        ('[{"asin": "A"}, {"asin": }]', "no list of products from row 2 on"),
        ("", "no list of products from row 1 on"),
        ("[]", "holds no products"),
        ("[1, null]", "holds no products"),
        ("[" * 200_000, "items_shuffle.json"),
    ],
)
def test_what_is_no_list_of_products_is_one_sentence(tmp_path, text, words):
    shop(tmp_path, [row()])
    (tmp_path / "items_shuffle.json").write_text(text)
    assert words in refused(BadRawData, read_webshop, tmp_path)


def test_other_files_in_their_place_are_one_sentence(tmp_path):
    shop(tmp_path, [row("A")])
    for name, content, words in (
        ("items_shuffle.json", b"[\xff]", "not UTF-8"),
        ("items_ins_v2.json", b"\xff", "not UTF-8"),
        ("items_ins_v2.json", b"[]", "no attributes by ASIN"),
        ("items_ins_v2.json", b"[" * 200_000, "items_ins_v2.json"),
    ):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        assert words in refused(BadRawData, read_webshop, tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_files_of_two_catalogues_are_one_sentence(tmp_path):
    shop(tmp_path, [row("A"), row("B")], {"C": about()})
    assert "knows none of the 2 products" in refused(BadRawData, read_webshop, tmp_path)
    assert "knows none" in refused(BadRawData, keep_webshop, tmp_path, tmp_path / "kept")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "items_ins_v2.json", "items_shuffle.json",
    ]  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_rows_are_read_across_the_borders_of_chunks(tmp_path, monkeypatch, chunk):
    rows = [row(f"A{number}", name="☂" * 9) for number in range(9)] + [17, 1.5, None]
    whole = read(tmp_path, rows, {f"A{number}": about() for number in range(9)})
    monkeypatch.setattr(module, "_CHUNK", chunk)
    again = read_webshop(tmp_path)
    assert again.products == whole.products and len(again.products) == 9
    assert again.notes == whole.notes and again.notes[0].endswith("left out: 3.")


def test_a_row_without_end_is_given_up(tmp_path, monkeypatch):
    shop(tmp_path, [row("A"), row("B", name="x" * 5000), row("C")])
    monkeypatch.setattr(module, "_CHUNK", 16)
    monkeypatch.setattr(module, "_LARGEST_ROW", 1000)
    assert "from row 2 on" in refused(BadRawData, read_webshop, tmp_path)


# -------------------------------------------------------------------------------------- in a folder

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SOME = st.lists(TEXT, max_size=3).map(tuple)
PRODUCTS = st.builds(
    Product,
    asin=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
    name=TEXT, description=TEXT, bullets=SOME, category=TEXT, query=TEXT, path=SOME,
    options=st.dictionaries(TEXT, SOME, max_size=3),
    prices=st.lists(st.floats(0, allow_infinity=False), max_size=2).map(tuple),
    price=st.floats(0, allow_infinity=False), attributes=SOME, instruction=TEXT,
    instruction_attributes=SOME, image=TEXT,
)  # fmt: skip


@settings(max_examples=50)
@given(products=st.lists(PRODUCTS, min_size=1, max_size=6, unique_by=lambda p: p.asin))
def test_products_come_back_as_they_were(tmp_path_factory, products):
    folder = tmp_path_factory.mktemp("shop") / "kept"
    catalogue = catalogue_of("drawn", products, ("A note: 3.",))
    write_catalogue(catalogue, folder)
    kept = open_catalogue(folder, verify=True)
    assert (kept.name, kept.sha256, kept.notes) == ("drawn", catalogue.sha256, ("A note: 3.",))
    assert list(kept.products) == products and len(kept.products) == len(products)
    assert [kept.products[number] for number in range(len(products))] == products
    assert [list(product.options) for product in kept.products] == [
        list(product.options) for product in products
    ]
    for sought in [product.asin for product in products] + ["", "\0", "\ud800", "x" * 99]:
        assert kept.number(sought) == catalogue.number(sought)
        assert kept.number(sought + "\0") == -1


@pytest.fixture
def kept(tmp_path):
    """A folder with seven products, and the catalogue that it keeps."""
    catalogue = read(tmp_path, [row(f"A{number}", name=f"Socks {number}") for number in range(7)])
    write_catalogue(catalogue, tmp_path / "kept")
    return tmp_path / "kept", catalogue


def test_kept_products_are_a_sequence(kept):
    folder, catalogue = kept
    products = open_catalogue(folder).products
    assert products[-1] == catalogue.products[6]
    assert products[1:6:2] == catalogue.products[1:6:2] and products[9:] == []
    assert products[3] is products[3]  # those read last are kept
    for number in (7, -8):
        with pytest.raises(IndexError):
            products[number]


def test_webshops_files_go_straight_to_a_folder(tmp_path, kept):
    _, catalogue = kept
    straight = keep_webshop(tmp_path, tmp_path / "straight")
    assert straight.sha256 == catalogue.sha256 and list(straight.products) == catalogue.products
    assert (straight.name, straight.notes) == (catalogue.name, catalogue.notes)


def test_the_hash_tells_products_and_their_order_apart(kept):
    _, catalogue = kept
    products = catalogue.products
    others = [
        products[::-1],
        products[:-1],
        [replace(products[0], price=5.98), *products[1:]],
        [replace(products[0], options={"size": ("l", "s | m")}), *products[1:]],
    ]
    hashes = {catalogue_of("x", each).sha256 for each in [products, *others]}
    assert len(hashes) == 5 and catalogue_of("other name", products).sha256 == catalogue.sha256


def test_a_catalogue_keeps_the_hash_it_was_given(tmp_path, kept):
    _, catalogue = kept
    write_catalogue(Catalogue("made", catalogue.products, "of its recipe"), tmp_path / "made")
    assert open_catalogue(tmp_path / "made", verify=True).sha256 == "of its recipe"


def test_what_is_there_is_replaced_only_when_asked(tmp_path, kept):
    folder, catalogue = kept
    assert "is there already" in refused(InvalidArgument, write_catalogue, catalogue, folder)
    write_catalogue(catalogue_of("new", catalogue.products[:2]), folder, replace=True)
    assert len(open_catalogue(folder).products) == 2
    assert not [file for file in tmp_path.iterdir() if file.name[0] == "."]


def test_writing_that_stops_leaves_nothing(tmp_path, kept):
    folder, catalogue = kept

    class Stopped(list):
        def __iter__(self):
            yield from catalogue.products[:2]
            raise KeyboardInterrupt

    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for place in (folder, tmp_path / "fresh"):
        with pytest.raises(KeyboardInterrupt):
            write_catalogue(Catalogue("x", Stopped(), "x"), place, replace=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert not (tmp_path / "fresh").exists()
    assert not [file for file in tmp_path.iterdir() if file.name[0] == "."]


def test_what_cannot_be_kept_is_one_sentence(tmp_path, kept):
    _, catalogue = kept
    twice = [catalogue.products[0]] * 2
    words = refused(InvalidArgument, write_catalogue, Catalogue("x", twice, "x"), tmp_path / "a")
    assert "A0 is there twice" in words
    words = refused(InvalidArgument, write_catalogue, Catalogue("x", [], "x"), tmp_path / "a")
    assert "at least one product" in words
    (tmp_path / "file").touch()
    refused(OutOfRoom, write_catalogue, catalogue, tmp_path / "file" / "a")
    assert not (tmp_path / "a").exists()


def test_damage_of_every_kind_is_one_sentence(kept):
    folder, _ = kept
    for name in os.listdir(folder):
        file = folder / name
        whole = file.read_bytes()
        for content in (whole[:-3], whole + b"x", b"", None):
            file.unlink() if content is None else file.write_bytes(content)
            refused(BadDataset, open_catalogue, folder)
            file.write_bytes(whole)
    manifest = folder / "manifest.json"
    whole = manifest.read_text()
    for old, new, words in (
        ("webshop", "another", "was changed"), ('"schema": 1', '"schema": 2', "version 2"),
        (whole, "[]", "version None"), (whole, "{", "cannot be read"),
    ):  # fmt: skip
        manifest.write_text(whole.replace(old, new))
        assert words in refused(BadDataset, open_catalogue, folder)
    manifest.write_text(whole)
    lines = folder / "products.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b'["A3",', b'{"A3",'))
    products = open_catalogue(folder).products
    assert products[2].asin == "A2"
    assert "product 3 cannot be read" in refused(BadDataset, products.__getitem__, 3)
    assert "was changed" in refused(BadDataset, open_catalogue, folder, verify=True)
    refused(BadDataset, open_catalogue, folder.parent / "none")


def test_numbers_can_be_given(kept):
    _, catalogue = kept
    given_numbers = Catalogue("x", catalogue.products, "x", numbers={"A": 5})
    assert given_numbers.number("A") == 5 and given_numbers.number("A0") == -1


def test_names_in_the_manifest_are_the_fields(kept):
    folder, _ = kept
    about_it = json.loads((folder / "manifest.json").read_text())
    assert about_it["fields"][0] == "asin" and "image" in about_it["fields"]
    assert re.fullmatch("[0-9a-f]{64}", about_it["products_sha256"])
