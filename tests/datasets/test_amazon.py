"""Amazon 2018 on small files in the documented form; the data themselves are not at hand.

Form: https://nijianmo.github.io/amazon/index.html, one JSON object a line. The page shows
`categories`, a list in a list, and `description`, a text; copies of the files name the field
`category`, a list (https://huggingface.co/datasets/smartcat/Amazon_All_Beauty_2018). Both are read.
"""

import gzip
import json

import pytest

from recgym.datasets.amazon import Source
from recgym.errors import BadRawData

SECOND, DAY = 1_000_000, 86_400
FIRST = 1_252_800_000

REVIEWS = [  # reviewer, product, stars, time
    ("A2SUAM1J3GNN3B", "0000013714", 5.0, FIRST),
    ("A2SUAM1J3GNN3B", "B000000001", 2.0, FIRST + DAY),
    ("A2SUAM1J3GNN3B", "B000000002", 4.0, FIRST + 2 * DAY),
    ("A3", "0000013714", 1.0, FIRST + 3 * DAY),
    ("A3", "B000000003", 3.0, FIRST + 4 * DAY),
]
PRODUCTS = [
    {
        "asin": "0000013714",
        "title": "Heavenly Highway Hymns",
        "category": ["Industrial & Scientific", "Test, Measure & Inspect", "Rulers"],
        "description": ['Bound to be "seen".', "", "Eighth edition."],
        "brand": "Stamps-Baxter",
        "price": "$9.99",
        "also_buy": ["B000000001"],
    },
    {
        "asin": "B000000001",
        "title": "Girls Ballet Tutu Zebra Hot Pink",
        "description": "This tutu is great for dress up play.",
        "brand": "Coxlures",
        "categories": [["Sports & Outdoors", "Other Sports", "Dance"]],
        "salesRank": {"Toys & Games": 211836},
    },
    {"asin": "B000000002", "title": None, "category": [], "description": None, "brand": None},
    {"asin": "B000000004", "title": "Never reviewed", "category": ["X"]},
]
NAME = "Industrial_and_Scientific"


def packed(file, objects):
    file.write_bytes(gzip.compress("".join(json.dumps(o) + "\n" for o in objects).encode()))


def reviews(rows):
    for reviewer, asin, stars, time in rows:
        yield {
            "overall": stars,
            "verified": True,
            "reviewTime": "09 13, 2009",
            "reviewerID": reviewer,
            "asin": asin,
            "style": {"Format:": " Hardcover"},
            "reviewText": "I bought this for my husband who plays the piano.",
            "unixReviewTime": time,
        }


@pytest.fixture
def raw(tmp_path):
    packed(tmp_path / f"{NAME}_5.json.gz", reviews(REVIEWS))
    packed(tmp_path / f"meta_{NAME}.json.gz", PRODUCTS)
    return tmp_path


def test_a_review_is_an_event_of_its_stars(build, raw, rows_of):
    log = build(Source(), raw, "leave-last-out")
    found = {
        user: [(row.item, row.behaviour, row.reward, row.time // SECOND) for row in rows]
        for user, rows in rows_of(log).items()
    }
    assert found == {
        "A2SUAM1J3GNN3B": [
            ("0000013714", "5.0", 1.0, FIRST),
            ("B000000001", "2.0", 0.0, FIRST + DAY),
            ("B000000002", "4.0", 0.5, FIRST + 2 * DAY),
        ],
        "A3": [
            ("0000013714", "1.0", 0.0, FIRST + 3 * DAY),
            ("B000000003", "3.0", 0.0, FIRST + 4 * DAY),
        ],
    }


def test_only_four_and_five_stars_are_positive(build, raw):
    log = build(Source(), raw, "leave-last-out", in_state="positive")
    stars = [log.manifest.behaviours[code] for code in log.behaviours.tolist()]
    known = (log.items < log.n_items).tolist()
    assert log.in_state.tolist() == [
        star in ("4.0", "5.0") and seen for star, seen in zip(stars, known, strict=True)
    ]


def test_texts_are_joined_and_what_is_missing_is_empty(build, raw):
    log = build(Source(), raw, "leave-last-out")
    items = {item.pop("raw_id"): item for item in log.catalogue.to_pylist()}
    fields = ("title", "category", "brand", "description")
    assert {asin: tuple(item[field] for field in fields) for asin, item in items.items()} == {
        "0000013714": (
            "Heavenly Highway Hymns",
            "Industrial & Scientific > Test, Measure & Inspect > Rulers",
            "Stamps-Baxter",
            'Bound to be "seen". Eighth edition.',
        ),
        "B000000001": (
            "Girls Ballet Tutu Zebra Hot Pink",
            "Sports & Outdoors > Other Sports > Dance",
            "Coxlures",
            "This tutu is great for dress up play.",
        ),
        "B000000002": ("", "", "", ""),
        "B000000003": ("", "", "", ""),
    }


def test_a_script_is_no_title(build, raw):
    script = {"asin": "B000000003", "title": "var aPageStart = (new Date()).getTime();"}
    packed(raw / f"meta_{NAME}.json.gz", [*PRODUCTS, script])
    log = build(Source(), raw, "leave-last-out")
    titles = {item["raw_id"]: item["title"] for item in log.catalogue.to_pylist()}
    assert titles["B000000003"] == ""
    assert titles["0000013714"] == "Heavenly Highway Hymns"


def test_a_product_described_twice_is_one_item(build, raw):
    once = build(Source(), raw, "leave-last-out")
    packed(raw / f"meta_{NAME}.json.gz", [*PRODUCTS, PRODUCTS[0]])
    assert build(Source(), raw, "leave-last-out").manifest.digest == once.manifest.digest


def test_one_file_alone_is_enough(build, raw):
    log = build(Source(), raw / f"{NAME}_5.json.gz", "leave-last-out")
    assert len(log) == len(REVIEWS)
    assert log.manifest.notes == [f"No meta_{NAME}.json was there: the items have no text."]


def test_the_core_is_read_unless_every_review_is_asked_for(build, raw):
    packed(raw / f"{NAME}.json.gz", reviews([*REVIEWS, ("A9", "0000013714", 5, FIRST)]))
    assert len(build(Source(), raw, "leave-last-out")) == len(REVIEWS)
    every = build(Source(every=True), raw, "leave-last-out")
    assert len(every) == len(REVIEWS) + 1
    assert "Heavenly Highway Hymns" in every.catalogue.column("title").to_pylist()


def test_among_several_categories_one_is_named(build, raw):
    packed(raw / "Movies_and_TV_5.json.gz", reviews(REVIEWS[:2]))
    with pytest.raises(BadRawData, match=f"Name one with --category {NAME}"):
        build(Source(), raw)
    log = build(Source(category="Movies_and_TV"), raw, "leave-last-out")
    assert len(log) == 2


def test_a_folder_without_reviews_says_what_it_has(build, raw):
    (raw / f"{NAME}_5.json.gz").unlink()
    with pytest.raises(BadRawData, match=r"has no <Category>_5\.json\.gz .* it has meta_"):
        build(Source(), raw)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"reviewerID": "A1", "asin": "B1", "overall": 4.5, "unixReviewTime": 1252800000}',
         "field 'overall' says '4.5'"),
        ('{"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 125280000000}',
         "field 'unixReviewTime' says"),
        ('{"reviewerID": "A1", "overall": 4.0, "unixReviewTime": 1252800000}',
         "field 'asin' says '', which is empty"),
        ("{'reviewerID': 'A1', 'asin': 'B1'}", "is not a JSON object"),
        ('{"reviewerID": "A1", "asi', "is not a JSON object"),
    ],
)  # fmt: skip
def test_a_line_that_breaks_the_form_is_named(build, raw, line, complaint):
    good = "".join(json.dumps(review) + "\n" for review in reviews(REVIEWS))
    (raw / f"{NAME}_5.json.gz").write_bytes(gzip.compress((good + line + "\n").encode()))
    with pytest.raises(BadRawData, match=rf"_5\.json line 6: {complaint}"):
        build(Source(), raw)
