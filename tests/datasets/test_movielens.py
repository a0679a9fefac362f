"""MovieLens, against the raw files and in every form that GroupLens distributes.

Forms: https://files.grouplens.org/datasets/movielens/ml-25m-README.html (commas),
ml-1m-README.txt (two colons) and ml-100k-README.txt (tabs and bars) beside it.
"""

import bz2
import csv
import gzip
import zipfile
from collections import Counter, defaultdict

import pytest

from recgym.datasets.movielens import STARS, Source
from recgym.errors import BadRawData

SECOND = 1_000_000


@pytest.fixture(scope="module")
def raw(samples):
    return samples / "movielens-latest-small"


@pytest.fixture(scope="module")
def ratings(raw):
    with (raw / "ratings.csv").open(newline="") as lines:
        return [
            (row["userId"], row["movieId"], float(row["rating"]), int(row["timestamp"]) * SECOND)
            for row in csv.DictReader(lines)
        ]


@pytest.fixture(scope="module")
def log(build, raw):
    return build(Source(), raw)


@pytest.fixture(scope="module")
def cuts(ratings):
    times = sorted(time for *_, time in ratings)
    return [times[len(times) * tenths // 10] for tenths in (8, 9)]


def test_rows_users_items_and_behaviours_are_those_of_the_raw_file(log, ratings):
    counts = log.manifest.counts
    assert counts["rows"] == len(ratings) == 100_836
    assert counts["sessions"] == len({user for user, *_ in ratings}) == 610
    assert counts["items"] == len({film for _, film, *_ in ratings})
    stars = Counter(f"{rating:.1f}" for *_, rating, _ in ratings)
    assert counts["behaviours"] == {star: stars[star] for star in STARS}


def test_the_card_shows_this_log(log, committed):
    assert log.manifest.digest == committed("movielens--latest-small")


def test_every_user_has_the_same_films_at_the_same_times(log, ratings, rows_of, up_to_ties):
    expected = defaultdict(list)
    for user, film, rating, time in sorted(ratings, key=lambda rating: rating[-1]):
        expected[user].append((time, (film, f"{rating:.1f}")))
    found = {
        user: [(row.time, (row.item, row.behaviour)) for row in rows]
        for user, rows in rows_of(log).items()
    }
    assert up_to_ties(found) == up_to_ties(expected)


def test_rewards_follow_the_levels(log, rows_of):
    for rows in rows_of(log).values():
        for row in rows:
            stars = float(row.behaviour)
            assert row.reward == (1.0 if stars >= 4.5 else 0.5 if stars == 4 else 0.0)


def test_splits_cut_at_the_quantiles_of_time(log, cuts, rows_of):
    assert log.manifest.cuts == cuts
    times = defaultdict(list)
    for rows in rows_of(log).values():
        for row in rows:
            times[row.split].append(row.time)
    assert max(times["train"]) < cuts[0] <= min(times["validation"])
    assert max(times["validation"]) < cuts[1] <= min(times["test"])


def test_unseen_are_the_targets_whose_film_training_never_saw(log, ratings, cuts):
    known = {film for _, film, _, time in ratings if time < cuts[0]}
    unseen = Counter(
        "test" if time >= cuts[1] else "validation"
        for _, film, _, time in ratings
        if film not in known
    )
    found = log.manifest.counts["unseen"]
    assert (found["validation"], found["test"]) == (unseen["validation"], unseen["test"])
    assert log.n_items == len(known)


def test_splitting_whole_users_would_leak(ratings, leaked):
    times = defaultdict(list)
    for user, _, _, time in ratings:
        times[user].append(time)
    older_than_test, older_than_training = leaked(times)
    assert older_than_test > 1 / 2
    assert older_than_training > 1 / 3


def test_share_of_ties_is_that_of_the_raw_file(log, ratings):
    times = defaultdict(list)
    for user, _, _, time in ratings:
        times[user].append(time)
    tied = sum(
        first == second
        for moments in times.values()
        for first, second in zip(sorted(moments), sorted(moments)[1:], strict=False)
    )
    counts = log.manifest.counts
    assert (counts["tied_pairs"], counts["pairs"]) == (tied, len(ratings) - len(times))
    assert f"{tied / counts['pairs']:.1%}" == "15.8%"


def test_ties_do_not_follow_the_film_number(log):
    ids = [int(raw_id) for raw_id in log.catalogue.column("raw_id").to_pylist()]
    films = [ids[item] for item in log.items.tolist()]
    tied = [
        later > earlier
        for row, (earlier, later) in enumerate(zip(films, films[1:], strict=False))
        if log.timestamps[row] == log.timestamps[row + 1] and row + 1 not in set(log.offsets)
    ]
    assert 0.48 < sum(tied) / len(tied) < 0.52


def test_titles_and_genres_are_those_of_the_raw_file(log, raw):
    with (raw / "movies.csv").open(newline="", encoding="utf-8") as lines:
        films = {row["movieId"]: row for row in csv.DictReader(lines)}
    assert len(log.catalogue) < len(films)
    for item in log.catalogue.to_pylist():
        film = films[item["raw_id"]]
        assert item["title"] == film["title"]
        genres = film["genres"].split("|")
        assert item["topics"] == ([] if genres == ["(no genres listed)"] else genres)


def test_packed_downloads_give_the_same_log(log, build, raw, tmp_path):
    with zipfile.ZipFile(tmp_path / "ml-latest-small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("ratings.csv", "movies.csv"):
            archive.write(raw / name, f"ml-latest-small/{name}")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "ratings.csv.gz").write_bytes(gzip.compress((raw / "ratings.csv").read_bytes()))
    (packed / "movies.csv.bz2").write_bytes(bz2.compress((raw / "movies.csv").read_bytes()))
    for path in (tmp_path / "ml-latest-small.zip", packed):
        assert build(Source(), path).manifest.digest == log.manifest.digest


def test_crr_keeps_low_ratings_as_actions_but_not_as_state(build, raw, ratings):
    log = build(Source(), raw, "crr-movielens")
    liked = Counter(user for user, _, rating, _ in ratings if rating >= 4)
    kept = [rating for user, _, rating, _ in ratings if liked[user] >= 5]
    assert len(log) == len(kept)
    assert log.manifest.counts["in_state"] <= sum(rating >= 4 for rating in kept)
    known = log.items < log.n_items
    stars = [float(log.manifest.behaviours[code]) for code in log.behaviours.tolist()]
    assert log.in_state.tolist() == [
        star >= 4 and bool(seen) for star, seen in zip(stars, known, strict=True)
    ]


ONE_MILLION = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
    "movies.dat": "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
    "1193::Misérables, Les (1995)::Drama\n",
}
HUNDRED_THOUSAND = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t4\t891717742\n196\t302\t5\t881250950\n",
    "u.item": "242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|"
    "0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    '302|L.A. Confidential "é" (1997)|01-Jan-1997||http://us.imdb.com/M/title-exact?L%2EA|'
    "0|0|0|0|0|0|1|0|0|0|1|0|0|1|0|0|1|0|0\n",
}


def written(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text, encoding="latin-1")
    return folder


def test_the_form_of_1m_is_read(build, rows_of, tmp_path):
    log = build(Source(), written(tmp_path, ONE_MILLION), "leave-last-out")
    found = {
        user: [(row.item, row.behaviour, row.time // SECOND) for row in rows]
        for user, rows in rows_of(log).items()
    }
    assert found == {
        "1": [("1193", "5.0", 978300760), ("661", "3.0", 978302109)],
        "2": [("1193", "4.0", 978298413)],
    }
    titles = {item["raw_id"]: (item["title"], item["topics"]) for item in log.catalogue.to_pylist()}
    assert titles["1193"] == ("Misérables, Les (1995)", ["Drama"])
    assert titles["661"][1] == ["Animation", "Children's", "Musical"]


def test_the_form_of_100k_is_read(build, rows_of, tmp_path):
    log = build(Source(), written(tmp_path, HUNDRED_THOUSAND), "leave-last-out")
    assert [row.item for row in rows_of(log)["196"]] == ["242", "302"]
    assert [row.behaviour for row in rows_of(log)["186"]] == ["4.0"]
    films = {item["raw_id"]: item for item in log.catalogue.to_pylist()}
    assert films["242"]["title"] == "Kolya (1996)"
    assert films["242"]["topics"] == ["Comedy"]
    assert films["302"]["title"] == 'L.A. Confidential "é" (1997)'
    assert films["302"]["topics"] == ["Crime", "Film-Noir", "Mystery", "Thriller"]


def test_a_bad_line_is_named(build, tmp_path):
    files = {"ratings.dat": ONE_MILLION["ratings.dat"] + "3::661::6::978302109\n"}
    with pytest.raises(BadRawData, match=r"ratings\.dat line 4: column 'rating' says '6'"):
        build(Source(), written(tmp_path, files))
