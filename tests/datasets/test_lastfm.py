"""Last.fm on small files in the documented forms; the data themselves are not at hand.

LFM-1b: files and fields in Table 1 of https://pmc.ncbi.nlm.nih.gov/articles/PMC5350199, the order
of the columns as loaded by https://github.com/thelondonsimon/lfm1b (loadtopgsql.php, dbsetup.sql):
tabs, no header. Last.fm 1K: http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html, tabs, no
header; that a few lines are malformed says https://github.com/eifuentes/lastfm-dataset-1K.
"""

import bz2
import zipfile

import pytest

from recgym.datasets.lastfm import LASTFM_1K, Source
from recgym.errors import BadRawData, InvalidArgument, NothingLeft

SECOND, DAY = 1_000_000, 86_400
FIRST = 1_356_998_400  # 2013-01-01 00:00 UTC

EVENTS = [  # user, artist, album, track, time
    (31435741, 2, 4, 41, FIRST),
    (31435741, 2, 4, 42, FIRST + 200),
    (31435741, 2, 5, 41, FIRST + DAY),
    (50, 3, 6, 43, FIRST + 2 * DAY),
    (50, 2, 4, 41, FIRST + 3 * DAY - 1),
    (50, 3, 6, 43, FIRST + 3 * DAY),
    (50, 2, 5, 41, FIRST + 40 * DAY),
    (50, 2, 5, 41, FIRST + 40 * DAY + 1),
]
NAMES = {
    "LFM-1b_tracks.txt": ["41\tPush It\t2", '42\tSay "Hi"\t2', "43\tJóga\t3", "44\tUnheard\t3"],
    "LFM-1b_albums.txt": ["4\tFirst, Album\t2", "5\tBest Of\t2", "6\tHomogenic\t3"],
    "LFM-1b_artists.txt": ["2\tThe Dogs", "3\tBjörk"],
}


@pytest.fixture
def lfm(write):
    lines = ["\t".join(map(str, event)) for event in EVENTS]
    return write(**{"LFM-1b_LEs.txt": lines} | NAMES)


def events_of(rows):
    return {user: [(row.item, row.time // SECOND) for row in mine] for user, mine in rows.items()}


def test_three_days_from_the_first_event_are_kept(build, lfm, rows_of):
    log = build(Source(), lfm, "leave-last-out")
    assert events_of(rows_of(log)) == {
        "31435741": [("41", FIRST), ("42", FIRST + 200), ("41", FIRST + DAY)],
        "50": [("43", FIRST + 2 * DAY), ("41", FIRST + 3 * DAY - 1)],
    }
    assert log.manifest.behaviours == ["listen"]
    assert set(log.rewards.tolist()) == {1.0}
    assert log.manifest.notes == ["3 days of listening from 2013-01-01 00:00 UTC on."]


def test_the_window_can_begin_and_last_as_asked(build, lfm, rows_of):
    two = build(Source(days=2, start="2013-01-03"), lfm, "leave-last-out")
    assert events_of(rows_of(two)) == {
        "50": [("43", FIRST + 2 * DAY), ("41", FIRST + 3 * DAY - 1), ("43", FIRST + 3 * DAY)]
    }
    everything = build(Source(days=0), lfm, "leave-last-out")
    assert len(everything) == len(EVENTS)


def test_a_track_has_its_title_artist_and_the_album_most_listened_from(build, lfm):
    def texts(log):
        return {
            item["raw_id"]: (item["title"], item["album"], item["artist"])
            for item in log.catalogue.to_pylist()
        }

    window = texts(build(Source(), lfm, "leave-last-out"))
    assert window == {
        "41": ("Push It", "First, Album", "The Dogs"),
        "42": ('Say "Hi"', "First, Album", "The Dogs"),
        "43": ("Jóga", "Homogenic", "Björk"),
    }
    everything = texts(build(Source(days=0), lfm, "leave-last-out"))
    assert everything["41"] == ("Push It", "Best Of", "The Dogs")


def test_names_that_are_missing_are_empty(build, lfm):
    (lfm / "LFM-1b_albums.txt").write_text("6\t\t3\n")
    log = build(Source(), lfm, "leave-last-out")
    assert log.catalogue.column("album").to_pylist() == ["", "", ""]


def test_packed_downloads_give_the_same_log(build, lfm, tmp_path):
    plain = build(Source(), lfm, "leave-last-out")
    with zipfile.ZipFile(tmp_path / "LFM-1b.zip", "w") as archive:
        for file in lfm.iterdir():
            archive.write(file, f"LFM-1b/{file.name}")
    packed = tmp_path / "packed"
    packed.mkdir()
    for file in lfm.iterdir():
        (packed / f"{file.name}.bz2").write_bytes(bz2.compress(file.read_bytes()))
    for path in (tmp_path / "LFM-1b.zip", packed):
        assert build(Source(), path, "leave-last-out").manifest.digest == plain.manifest.digest


def test_the_filter_of_lea_counts_three(build, write):
    lines = [f"{user}\t2\t4\t{track}\t{FIRST + track}" for user in (1, 2, 3) for track in (1, 2, 3)]
    lines += [f"4\t2\t4\t{track}\t{FIRST + track}" for track in (1, 2)]
    lines += [f"1\t2\t4\t9\t{FIRST + 50}"]
    tracks = [f"{track}\tTrack {track}\t2" for track in (1, 2, 3, 9)]
    raw = write(**{"LFM-1b_LEs.txt": lines} | NAMES | {"LFM-1b_tracks.txt": tracks})
    log = build(Source(), raw, "lea-lfm")
    assert (log.n_sessions, len(log)) == (3, 9)
    assert sorted(log.catalogue.column("title").to_pylist()) == ["Track 1", "Track 2", "Track 3"]


@pytest.mark.parametrize("start", ["yesterday", "2013-02-30"])
def test_a_start_that_is_no_date_is_refused(build, lfm, start):
    with pytest.raises(InvalidArgument, match="--start is a date such as 2013-01-31"):
        build(Source(start=start), lfm)


def test_an_empty_window_says_what_there_is(build, lfm):
    with pytest.raises(NothingLeft, match="the events go from 2013-01-01 00:00 UTC to 2013-02-10"):
        build(Source(start="2014-01-01"), lfm)


def test_a_missing_name_file_is_named(build, lfm):
    (lfm / "LFM-1b_artists.txt").unlink()
    with pytest.raises(BadRawData, match=r"has no LFM-1b_artists\.txt"):
        build(Source(), lfm)


# -------------------------------------------------------------------------------- Last.fm 1K

LINES = [
    "user_000639\t2009-04-08T01:57:47Z\tMBID\tThe Dogs D'Amour\tMBID\tFall in Love Again?",
    "user_000639\t2009-04-08T01:53:56Z\tMBID\tThe Dogs D'Amour\tMBID\tWait Until I'm Dead",
    'user_000639\t2009-04-07T23:00:00Z\t\tThe "Dogs\t\tFall in Love Again?',
    "user_000001\t2009-04-10T00:00:00Z\t\tThe Dogs D'Amour\t\tFall in Love Again?",
    "user_000001\t2009-05-04T13:08:57Z\tMBID\tDeep Dish\t\tFuck Me Im Famous",
]


def test_the_form_of_1k_is_read_and_a_track_is_its_artist_and_title(build, write, rows_of):
    log = build(Source(), write(**{LASTFM_1K: LINES}), "leave-last-out")
    dogs, quoted = "The Dogs D'Amour\t", 'The "Dogs\t'
    assert {user: [row.item for row in rows] for user, rows in rows_of(log).items()} == {
        "user_000639": [
            f"{quoted}Fall in Love Again?",
            f"{dogs}Wait Until I'm Dead",
            f"{dogs}Fall in Love Again?",
        ],
        "user_000001": [f"{dogs}Fall in Love Again?"],
    }
    assert rows_of(log)["user_000001"][0].time == 1_239_321_600 * SECOND
    texts = {item["raw_id"]: item for item in log.catalogue.to_pylist()}
    assert texts[f"{dogs}Wait Until I'm Dead"]["title"] == "Wait Until I'm Dead"
    assert texts[f"{dogs}Wait Until I'm Dead"]["artist"] == "The Dogs D'Amour"
    assert "album" not in log.catalogue.schema.names


def test_a_few_malformed_lines_are_left_out_and_counted(build, write):
    lines = LINES * 60
    lines[7] = "user_000639\t2009-04-08T01:57:47Z\tMBID\tThe\tDogs\tMBID\tA tab too many"
    lines[9] = "user_000639\t2009-04-08T01:57:47Z\tMBID\t\tMBID\tNo artist"
    log = build(Source(days=0), write(**{LASTFM_1K: lines}), "leave-last-out")
    assert len(log) == 298
    assert "2 lines without six whole fields were left out." in log.manifest.notes


def test_a_file_of_malformed_lines_is_refused(build, write):
    lines = [*LINES, "user_000639\t2009-04-08T01:57:47Z\tArtist\tTitle"]
    with pytest.raises(BadRawData, match="only 5 of 6 lines have six fields"):
        build(Source(), write(**{LASTFM_1K: lines}))


def test_a_time_that_is_none_is_refused(build, write):
    lines = [*LINES, "user_000639\tyesterday\tMBID\tArtist\tMBID\tTitle"]
    with pytest.raises(BadRawData, match="column 'time' has 1 values"):
        build(Source(), write(**{LASTFM_1K: lines}))
