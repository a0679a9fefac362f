"""Raw files: what is read is what the file says, and what is refused is named by its line."""

import bz2
import csv
import gzip
import io
import re
import shutil
import struct
import warnings
import zipfile
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recgym.build import build_log
from recgym.datasets.movielens import Source
from recgym.engine import connect
from recgym.errors import BadRawData, RecGymError
from recgym.kinds import Number, Text, Time
from recgym.protocols import Protocol
from recgym.raw import open_raw
from recgym.reading import read_text

from .sentences import said

HEADER = "userId,movieId,rating,timestamp"
ROWS = [
    "1,50,4.0,964982703",
    "1,47,5.0,964983815",
    "2,50,3.5,1445714835",
    "2,1,0.5,1445714835",
    "3,47,4.5,1306463578",
]
MOVIES = 'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n47,"Se7en, a ""film""",Crime\n'
KINDS = {
    "userId": Number(0, whole=True),
    "movieId": Number(0, whole=True),
    "rating": Number(0.5, 5),
    "timestamp": Time("s", since=1995),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with connect(scratch=tmp_path_factory.mktemp("scratch")) as engine:
        yield engine


@pytest.fixture
def read(engine, tmp_path):
    """The rows of ratings.csv, or of whatever is there under another name, as MovieLens' source."""

    def read(content, name="ratings.csv", **others):
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        for file, text in {name: content, **others}.items():
            (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
        return rows_of(engine, folder)

    return read


def rows_of(engine, path):
    """What MovieLens' source makes of a download: (user, item, stars, seconds) by row."""
    tables = Source().tables(open_raw(path, engine.scratch), engine)
    rows = engine.fetch(tables.events.order_by("row")).to_pylist()
    return [(r["user"], r["item"], (r["behaviour"] + 1) / 2, r["time"] // 1_000_000) for r in rows]


def text_of(rows, header=HEADER, newline="\n"):
    return newline.join([header, *rows, ""])


def counted(rows):
    """The same by Python's own reader."""
    fields = [row.split(",") for row in rows]
    return [(int(u), int(i), float(r), int(t)) for u, i, r, t in fields]


# ---------------------------------------------------------------------------------- good files


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", [True, False])
def test_newlines_and_a_byte_order_mark_change_nothing(read, newline, mark, end):
    text = mark + text_of(ROWS, newline=newline)
    assert read(text if end else text.rstrip()) == counted(ROWS)


def test_rows_that_occur_twice_are_kept(read):
    assert read(text_of(ROWS + ROWS)) == counted(ROWS + ROWS)


def test_columns_may_come_in_another_order_with_others_between(read):
    rows = [",".join(["x", *reversed(row.split(",")), "y"]) for row in ROWS]
    assert read(text_of(rows, "a,timestamp,rating,movieId,userId,b")) == counted(ROWS)


def test_a_row_may_be_quoted(read):
    rows = [",".join(f'"{field}"' for field in row.split(",")) for row in ROWS]
    assert read(text_of(rows)) == counted(ROWS)


def test_titles_and_topics_reach_the_catalogue(engine, tmp_path):
    (tmp_path / "ratings.csv").write_text(text_of(ROWS))
    (tmp_path / "movies.csv").write_text(MOVIES)
    tables = Source().tables(open_raw(tmp_path, engine.scratch), engine)
    log = build_log(tables, Protocol("p"), engine, tmp_path / "log")
    items = {item["raw_id"]: item for item in log.catalogue.to_pylist()}
    assert items["47"]["title"] == 'Se7en, a "film"' and items["50"]["title"] == ""
    assert items["1"]["topics"] == ["Animation", "Comedy"]


def test_the_older_forms_say_the_same(engine, tmp_path):
    for name, between in (("ratings.dat", "::"), ("u.data", "\t")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("\n".join(ROWS).replace(",", between) + "\n")
        assert rows_of(engine, folder) == counted(ROWS)


def test_latin_titles_are_read(engine, tmp_path):
    (tmp_path / "ratings.dat").write_text("1::50::4::964982703\n")
    (tmp_path / "movies.dat").write_bytes("50::Misérables, Les (1995)::Drama\n".encode("latin-1"))
    tables = Source().tables(open_raw(tmp_path, engine.scratch), engine)
    assert engine.fetch(tables.items)["title"].to_pylist() == ["Misérables, Les (1995)"]


# ----------------------------------------------------------------------------------- bad lines


BAD_ROWS = [
    ("1,50,4.0", ["has 3 fields where 4 belong", "'1,50,4.0'"]),
    ("1,50,4.0,964982703,7", ["has 5 fields where 4 belong"]),
    ("1;50;4.0;964982703", ["has 1 fields where 4 belong"]),
    ("x,50,4.0,964982703", ["column 'userId' says 'x'", "not a whole number"]),
    ("1.5,50,4.0,964982703", ["column 'userId' says '1.5'", "not a whole number"]),
    ("0x10,50,4.0,964982703", ["column 'userId' says '0x10'", "not a whole number"]),
    ("٣,50,4.0,964982703", ["column 'userId' says '٣'", "not a whole number"]),
    (",50,4.0,964982703", ["column 'userId' says ''", "not a whole number"]),
    ("-1,50,4.0,964982703", ["column 'userId' says '-1'", "not between 0 and"]),
    ("1,9007199254740993,4.0,964982703", ["'movieId' says '9007199254740993'"]),
    ("1,1e400,4.0,964982703", ["'movieId' says '1e400'", "not a whole number"]),
    ("1,50,good,964982703", ["column 'rating' says 'good'", "not a number"]),
    ("1,50,,964982703", ["column 'rating' says ''", "not a number"]),
    ("1,50,nan,964982703", ["column 'rating' says 'nan'", "not between 0.5 and 5"]),
    ("1,50,inf,964982703", ["column 'rating' says 'inf'", "not between 0.5 and 5"]),
    ("1,50,0,964982703", ["column 'rating' says '0'", "not between 0.5 and 5"]),
    ("1,50,50,964982703", ["column 'rating' says '50'", "not between 0.5 and 5"]),
    ("1,50,4.0,-964982703", ["column 'timestamp' says '-964982703'", "not a time between 1995"]),
    ("1,50,4.0,0", ["column 'timestamp' says '0'", "not a time between 1995 and 2100"]),
    ("1,50,4.0,964982703000", ["'964982703000'", "not a time between 1995 and 2100"]),
    ("1,50,4.0,99999999999999999999", ["not a time between 1995 and 2100"]),
    ("1,50,4.0,964982703.5", ["'964982703.5'", "not a whole number"]),
    ("1,50,4.0,2014-04-07", ["'2014-04-07'", "not a whole number"]),
    ("1,50,4.0,", ["column 'timestamp' says ''"]),
    ("1,50,4.0,96498", ["column 'timestamp' says '96498'"]),
    ("1,50,4\0.0,964982703", ["column 'rating' says '4\\x00.0'", "not a number"]),
    ("\0\0\0\0", ["has 1 fields where 4 belong", "'\\x00"]),
    (b"1,50,4.0\xff,964982703", ["bytes that are not UTF-8 text", "4.0\\udcff"]),
    ('1,50,4.0,"964982703', ["is not well-formed"]),
    ('1,50,"4.0"x,964982703', ["is not well-formed"]),
    (HEADER, ["column 'userId' says 'userId'", "not a whole number"]),
    ("1,50,4.0,964982703\r", ["does not end with '\\n' as line 1 does"]),
    ("   ", ["has 1 fields where 4 belong"]),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS, ids=[str(row) for row, _ in BAD_ROWS])
def test_the_first_bad_line_is_named_with_what_it_says(read, row, words):
    before, after = text_of(ROWS[:3]).encode(), text_of(ROWS[3:]).encode().partition(b"\n")[2]
    row = row if isinstance(row, bytes) else row.encode()
    with pytest.raises(BadRawData) as problem:
        read(before + row + b"\n" + after)
    text = said(problem)
    assert "ratings.csv line 5: " in text and "download the file again" in text
    assert all(word in text for word in words), text


def test_an_empty_line_before_it_is_not_blamed(read):
    with pytest.raises(BadRawData, match=r"line 4: column 'rating' says 'x'"):
        read(text_of([ROWS[0], "", "1,50,x,964982703"]))


@pytest.mark.parametrize("cut", range(1, 19))
def test_a_file_that_was_cut_in_its_last_line_is_refused(read, cut):
    text = text_of(ROWS).rstrip("\n")
    with pytest.raises(BadRawData) as problem:
        read(text[:-cut])
    assert "ratings.csv line 6: " in said(problem)


def test_a_line_with_another_newline_is_named(read):
    with pytest.raises(BadRawData) as problem:
        read(text_of(ROWS, newline="\r\n") + ROWS[0] + "\n" + ROWS[1] + "\r\n")
    assert "line 7: does not end with '\\r\\n' as line 1 does" in said(problem)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is empty"]),
        ("\n", ["begins with an empty line"]),
        (HEADER, ["no rows"]),
        (HEADER + "\n", ["no rows"]),
        (text_of(ROWS, "userId,movieId,rating"), ["line 1 names no column 'timestamp'"]),
        (
            text_of(ROWS, "userId,movieId,stars,timestamp"),
            ["no column 'rating'", "'userId,movieId"],
        ),
        (text_of(ROWS, HEADER + ",rating"), ["names the column 'rating' twice"]),
        (text_of(ROWS).replace(",", ";"), ["no column 'userId'", "Is the delimiter really ','?"]),
        (text_of(ROWS, newline="\r"), ["line 1 names no column"]),
        ("\n".join(ROWS), ["line 1 names no column 'userId'", "'1,50,4.0,964982703'"]),
        (text_of(ROWS).encode("utf-16"), ["line 1 names no column"]),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), ["line 1 names no column"]),
        (b"x" * (1 << 21), ["line 1 names no column"]),
        ('"userId,movieId,rating,timestamp\n' + ROWS[0], ["line 1 names no column"]),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(read, content, words):
    with pytest.raises(BadRawData) as problem:
        read(content)
    text = said(problem)
    assert "ratings.csv" in text and all(word in text for word in words), text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ratings.dat", "1::50::4\n", ["line 1 has 3 fields", "4 separated by '::'"]),
        ("ratings.dat", "1::50::4::964982703\n1:50::4::964982703\n", ["line 2: has 3 fields"]),
        ("ratings.dat", "1::50::4::964982703\n1::x::4::964982703\n", ["line 2", "'item' says 'x'"]),
        ("u.data", "1\t50\t4\t964982703\n1\t50\t9\t964982703\n", ["line 2", "'rating' says '9'"]),
        ("u.data", "1 50 4 964982703\n", ["line 1 has 1 fields"]),
    ],
)
def test_a_bad_line_of_an_older_form_is_named(read, name, content, words):
    with pytest.raises(BadRawData) as problem:
        read(content, name)
    assert all(word in said(problem) for word in [name, *words]), said(problem)


def test_a_bad_title_file_is_named(read):
    with pytest.raises(BadRawData) as problem:
        read(text_of(ROWS), **{"movies.csv": MOVIES + '50,"A title that never ends,Crime\n'})
    assert "movies.csv line 4: is not well-formed" in said(problem)


# ------------------------------------------------------------------------- times in other units


@pytest.mark.parametrize(
    ("unit", "good", "micros", "bad"),
    [
        ("s", "1396867869", 1396867869000000, ["1396867869277", "1.5", "x", "", "-5"]),
        ("ms", "1396867869277", 1396867869277000, ["1396867869", "", "1e99"]),
        ("us", "1396867869277123", 1396867869277123, ["1396867869277", "nan"]),
        ("iso", "2014-04-07T10:51:09.277Z", 1396867869277000, ["2014-04-31", "noon", ""]),
        ("iso", "2014-04-07 12:51:09.277+02:00", 1396867869277000, ["1814-04-07", "1396867869"]),
    ],
)
def test_a_time_is_exact_or_refused(engine, tmp_path, unit, good, micros, bad):
    def times(*texts):
        file = tmp_path / "times.csv"
        file.write_text("\n".join(["time,x", *(f"{text},1" for text in texts), ""]))
        table = read_text(engine, file, {"time": Time(unit)})
        return engine.fetch(table)["time"].to_pylist()

    assert times(good, good) == [micros, micros]
    for text in bad:
        with pytest.raises(BadRawData) as problem:
            times(good, text)
        assert f"line 3: column 'time' says '{text}', which is not" in said(problem)


@given(
    moment=st.datetimes(datetime(1991, 1, 1), datetime(2099, 1, 1)),  # noqa: DTZ001
    unit=st.sampled_from(["s", "ms", "us", "iso"]),
)
@settings(max_examples=settings().max_examples // 4)
def test_every_time_survives_to_the_microsecond(engine, tmp_path_factory, moment, unit):
    moment = moment.replace(tzinfo=UTC)
    micros = int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1, "iso": 1}[unit]
    text = moment.isoformat() if unit == "iso" else str(micros // scale)
    file = tmp_path_factory.mktemp("time") / "times.csv"
    file.write_text(f"time,x\n{text},1\n")
    table = read_text(engine, file, {"time": Time(unit)})
    assert engine.fetch(table)["time"].to_pylist() == [micros // scale * scale]
    shutil.rmtree(file.parent)


@given(st.lists(st.integers(1 - 2**53, 2**53 - 1), min_size=1, max_size=20))
@settings(max_examples=settings().max_examples // 4)
def test_whole_numbers_are_exact(engine, tmp_path_factory, numbers):
    file = tmp_path_factory.mktemp("whole") / "numbers.csv"
    file.write_text("".join(f"{n},1\n" for n in ["number", *numbers]))
    table = read_text(engine, file, {"number": Number(whole=True)})
    assert engine.fetch(table)["number"].to_pylist() == numbers
    shutil.rmtree(file.parent)


def test_one_of_a_closed_set_is_held(engine, tmp_path):
    file = tmp_path / "events.csv"
    file.write_text("event,x\nview,1\nViews,2\n")
    with pytest.raises(BadRawData) as problem:
        read_text(engine, file, {"event": Text(("view", "cart"))})
    assert "line 3: column 'event' says 'Views', which is not one of view, cart" in said(problem)


# ------------------------------------------------------------------------ archives and folders


def zipped(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "inside", ["ratings.csv", "ml-25m/ratings.csv", "./ratings.csv", "a b/c/RATINGS.CSV"]
)
def test_a_zip_is_read_wherever_the_file_lies_in_it(engine, tmp_path, inside):
    path = zipped(tmp_path / "ml.zip", **{"readme.txt": "hello", inside: text_of(ROWS)})
    assert rows_of(engine, path) == counted(ROWS)


@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_packed_file_is_read_also_within_a_zip(engine, tmp_path, end, pack):
    packed = pack(text_of(ROWS).encode())
    (tmp_path / f"ratings.csv{end}").write_bytes(packed)
    assert rows_of(engine, tmp_path / f"ratings.csv{end}") == counted(ROWS)
    assert rows_of(engine, tmp_path) == counted(ROWS)
    path = zipped(tmp_path / "ml.zip", **{f"ratings.csv{end}": packed})
    assert rows_of(engine, path) == counted(ROWS)


@pytest.mark.parametrize(
    "name",
    ["../ratings.csv", "/ratings.csv", "a/../../ratings.csv", "C:\\ratings.csv", "..\\x.csv"],
)
def test_a_zip_whose_names_leave_it_is_refused(engine, tmp_path, name):
    path = zipped(tmp_path / "ml.zip", **{"ratings.csv": text_of(ROWS), name: text_of(ROWS)})
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, path)
    assert "not safe to open" in said(problem) and "leaves the archive" in said(problem)


def test_a_zip_with_one_name_twice_is_refused(engine, tmp_path):
    path = zipped(tmp_path / "ml.zip", **{"ratings.csv": text_of(ROWS), "retings.csv": "x"})
    path.write_bytes(path.read_bytes().replace(b"retings", b"ratings"))
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, path)
    assert "holds 'ratings.csv' 2 times" in said(problem)


def test_a_zip_with_a_nameless_entry_is_read(engine, tmp_path):
    path = zipped(tmp_path / "ml.zip", **{"ratings.csv": text_of(ROWS), "./": ""})
    assert rows_of(engine, path) == counted(ROWS)


@pytest.mark.parametrize("pack", ["zip", "gz", "bz2"])
def test_a_bomb_does_not_go_off(engine, tmp_path, pack):
    content = HEADER.encode() + bytes(150 << 20)
    path = tmp_path / ("ml.zip" if pack == "zip" else f"ratings.csv.{pack}")
    if pack == "zip":
        zipped(path, **{"ratings.csv": content})
    else:
        path.write_bytes(gzip.compress(content, 1) if pack == "gz" else bz2.compress(content, 1))
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, path)
    assert "decompression bomb" in said(problem)


def test_a_bomb_that_lies_about_its_packed_size_does_not_go_off(engine, tmp_path):
    path = zipped(tmp_path / "ml.zip", **{"ratings.csv": bytes(150 << 20)})
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, central + 20, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, path)
    assert re.search("decompression bomb|cut or damaged", said(problem))


def test_an_encrypted_zip_is_refused(engine, tmp_path):
    path = zipped(tmp_path / "ml.zip", **{"ratings.csv": text_of(ROWS)})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the entry's own header, then in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, path)
    assert "encrypted" in said(problem)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("pack", ["zip", "gz", "bz2"])
def test_a_cut_archive_is_refused(engine, tmp_path, pack, share):
    content = text_of(ROWS * 50).encode()
    path = tmp_path / ("ml.zip" if pack == "zip" else f"ratings.csv.{pack}")
    if pack == "zip":
        zipped(path, **{"ratings.csv": content})
    else:
        path.write_bytes(gzip.compress(content) if pack == "gz" else bz2.compress(content))
    packed = path.read_bytes()
    path.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(BadRawData, match="is cut or damaged|is empty") as problem:
        rows_of(engine, path)
    assert "Download it again" in said(problem) and str(path) in said(problem)


@example("zip", [(1198, 2)])  # a directory that begins before the file does
@given(
    pack=st.sampled_from(["zip", "gz", "bz2"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_spoiled_archive_gives_what_was_packed_or_is_refused(tmp_path_factory, pack, edits):
    folder = tmp_path_factory.mktemp("spoiled")
    content = text_of(ROWS).encode()
    path = folder / ("ml.zip" if pack == "zip" else f"ratings.csv.{pack}")
    if pack == "zip":
        zipped(path, **{"ratings.csv": content, "a/movies.csv": MOVIES})
    else:
        path.write_bytes(gzip.compress(content) if pack == "gz" else bz2.compress(content))
    packed = bytearray(path.read_bytes())
    for place, byte in edits:
        packed[place % len(packed)] = byte
    path.write_bytes(packed)
    try:
        found = open_raw(path, folder).need("ratings.csv").read_bytes()
    except RecGymError as problem:
        assert said(problem)
    else:
        assert found == content
    shutil.rmtree(folder)


def test_a_folder_without_the_file_says_what_it_has(engine, tmp_path):
    (tmp_path / "tags.csv").write_text("x")
    (tmp_path / "ratings.csv").mkdir()
    with pytest.raises(BadRawData) as problem:
        rows_of(engine, tmp_path)
    assert "has no ratings.csv or ratings.dat or u.data; it has tags.csv" in said(problem)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.zip", "ml.tar.gz", "ml.7z"])
def test_what_cannot_be_opened_says_what_to_give(tmp_path, name):
    if "." in name and "where" not in name:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadRawData) as problem:
        open_raw(tmp_path / name, tmp_path)
    assert name in said(problem) and "ive " in said(problem)


def test_a_name_with_the_letters_of_a_pattern_is_only_a_name(engine, tmp_path):
    folder = tmp_path / "my [old] data*?"
    folder.mkdir()
    (folder / "ratings.csv").write_text(text_of(ROWS))
    assert rows_of(engine, folder) == counted(ROWS)


# ------------------------------------------------------------------------------- random damage


def recounted(content):
    """What Python's reader makes of a table of ratings, or None where it makes no sense of it."""
    try:
        text = content.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        header = [name.strip() for name in rows[0]]
        places = [header.index(name) for name in KINDS]
        found = []
        for row in rows[1:]:
            if len(row) == len(header) + 1 and row[-1] == "":
                row.pop()  # a delimiter at the end of a line
            if len(row) != len(header):
                return None
            user, item, stars, seconds = (float(row[place]) for place in places)
            if not (user.is_integer() and item.is_integer() and seconds.is_integer()):
                return None
            stars = round(stars * 2) / 2
            found.append((int(user), int(item), stars, int(seconds)))
    except (ValueError, csv.Error, IndexError, OverflowError):
        return None
    return found


@st.composite
def spoiled(draw):
    content = bytearray(text_of(ROWS).encode())
    byte = st.one_of(
        st.sampled_from(list(b",\"\r\n\0 .-+e_0159;\xff\xc3#\\'")), st.integers(0, 255)
    )
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content) - 1))
        match draw(st.sampled_from(["delete", "insert", "replace", "cut", "double"])):
            case "delete":
                del content[place : place + draw(st.sampled_from([1, 1, 5, 30]))]
            case "insert":
                content[place:place] = bytes(draw(st.lists(byte, min_size=1, max_size=3)))
            case "replace":
                content[place] = draw(byte)
            case "cut":
                del content[place:]
            case "double":
                content[place:place] = content[max(0, place - 20) : place]
        content = content or bytearray(b"\n")
    return bytes(content)


@settings(max_examples=2 * settings().max_examples)
@example(text_of(ROWS).replace("1,47", "1,4.7").encode())
@example(text_of(ROWS).replace("\n2", "\r2", 1).encode())
@given(spoiled())
def test_a_spoiled_table_is_read_as_python_reads_it_or_refused(engine, tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("spoiled")
    (folder / "ratings.csv").write_bytes(content)
    try:
        found = rows_of(engine, folder)
    except RecGymError as problem:
        assert said(problem)
        assert content != text_of(ROWS).encode()
    else:
        assert found == recounted(content)
    shutil.rmtree(folder)
