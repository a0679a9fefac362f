import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recgym import plots
from recgym.build import Tables, build_log
from recgym.datasets.demo import Source
from recgym.engine import connect
from recgym.errors import InvalidArgument, MissingExtra, OutOfRoom
from recgym.plots import plot_log
from recgym.protocols import protocol_named

DAY = 86_400_000_000


def build(path, events, behaviours=("click", "purchase"), user="visit", **switches):
    with connect("duckdb") as engine:
        tables = Tables(
            engine.from_arrow(pa.table(events)), behaviours, behaviours[-1:], user=user,
            rewards="value" if "value" in events else "binary",
        )  # fmt: skip
        return build_log(tables, replace(protocol_named("temporal"), **switches), engine, path)


def invented(rows=300, behaviours=2):
    rng = np.random.default_rng(0)
    return {
        "user": rng.integers(30, size=rows),
        "item": rng.integers(20, size=rows),
        "time": rng.integers(100, size=rows) * DAY,
        "behaviour": rng.integers(behaviours, size=rows),
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with connect("duckdb") as engine:
        tables = Source(visits=200).tables(None, engine)
        folder = tmp_path_factory.mktemp("logs")
        return build_log(tables, protocol_named("temporal"), engine, folder / "demo")


def drawn(log, file, monkeypatch):
    """The figure of a log."""
    figures = []
    write = plots._write
    monkeypatch.setattr(
        plots, "_write", lambda figure, file: (figures.append(figure), write(figure, file))[1]
    )
    plot_log(log, file)
    return figures[0]


def words(figure):
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(match=_is_text))


def _is_text(artist):
    from matplotlib.text import Text

    return isinstance(artist, Text)


@pytest.mark.parametrize(
    ("suffix", "begin"),
    [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")],
)
def test_the_suffix_chooses_the_form(demo, tmp_path, suffix, begin):
    file = tmp_path / "new" / f"log{suffix}"
    assert plot_log(demo, str(file)) == file
    assert file.read_bytes().startswith(begin)
    assert list(file.parent.iterdir()) == [file], "nothing else is left"


def test_a_png_is_1200_by_800(demo, tmp_path):
    head = plot_log(demo, tmp_path / "log.png").read_bytes()[16:24]
    assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (1200, 800)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_log_gives_the_same_bytes(demo, tmp_path, suffix):
    one = plot_log(demo, tmp_path / f"one{suffix}").read_bytes()
    assert one == plot_log(demo, tmp_path / f"two{suffix}").read_bytes()


def test_the_picture_names_the_log_and_its_counts(demo, tmp_path, monkeypatch):
    figure = drawn(demo, tmp_path / "log.png", monkeypatch)
    said = words(figure)
    for part in (
        f"demo: {len(demo):,} rows, 200 sessions, {demo.manifest.counts['items']} items",
        "session-time split: train 8",
        "rows in the session", "median", "90th percentile",
        "item, by its rank among the most frequent", "hold",
        "time (UTC)", "validation", "test",
        "click", "purchase", "0.2 each", "1 each",
    ):  # fmt: skip
        assert part in said
    assert len(figure.axes) == 4


def test_bars_hold_every_row(demo, tmp_path, monkeypatch):
    from matplotlib.patches import StepPatch

    behaviours = drawn(demo, tmp_path / "log.png", monkeypatch).axes[2]
    parts = [part.get_data() for part in behaviours.findobj(StepPatch)]
    drawn_rows = [int((part.values - part.baseline).sum()) for part in parts]
    assert drawn_rows == list(demo.manifest.counts["behaviours"].values())


def test_popularity_curves_hold_the_counts(demo, tmp_path, monkeypatch):
    train = drawn(demo, tmp_path / "log.png", monkeypatch).axes[1].lines[0]
    counts = np.sort(np.bincount(demo.items[demo.splits == 0]))[::-1]
    ranks, heights = train.get_data()
    assert heights.tolist() == counts[np.asarray(ranks) - 1].tolist()
    assert ranks[0] == 1 and ranks[-1] == (counts > 0).sum()


def test_cuts_are_marked_where_they_are(demo, tmp_path, monkeypatch):
    from matplotlib.dates import date2num

    behaviours = drawn(demo, tmp_path / "log.png", monkeypatch).axes[2]
    marks = [date2num(line.get_xdata()[0]) for line in behaviours.lines]
    assert marks == [date2num(np.datetime64(cut, "us")) for cut in demo.manifest.cuts]


def test_an_order_is_drawn_by_place(tmp_path, monkeypatch):
    events = invented()
    events["order"] = events.pop("time")
    log = build(tmp_path / "log", events, split="leave-last-out", user="person")
    said = words(drawn(log, tmp_path / "log.png", monkeypatch))
    assert "place in the session" in said and "time (UTC)" not in said


@pytest.mark.parametrize(
    "events",
    [
        invented(behaviours=2) | {"user": np.arange(300)},
        invented(rows=6),
        invented() | {"time": np.zeros(300, np.int64)},
        invented() | {"time": np.arange(300)},
        invented() | {"time": np.arange(300) * -(10**12)},
        invented() | {"behaviour": np.zeros(300, np.int64)},
        invented() | {"value": np.arange(300) % 2 - 0.5},
    ],
    ids=[
        "single rows",
        "few rows",
        "one time",
        "microseconds",
        "before 1970",
        "no reward",
        "costs",
    ],
)
def test_odd_logs_are_drawn_without_a_warning(tmp_path, events):
    log = build(tmp_path / "log", events, split="random-session", cuts=(0.5, 0.8))
    assert plot_log(log, tmp_path / "log.png").stat().st_size > 10_000


def test_many_levels_get_a_scale_of_colours(tmp_path, monkeypatch):
    stars = tuple(f"{half / 2}" for half in range(1, 11))
    log = build(tmp_path / "log", invented(behaviours=10), stars, "person")
    said = words(drawn(log, tmp_path / "log.png", monkeypatch))
    assert all(star in said for star in stars)
    assert len({str(colour) for colour in plots._colours(list(stars))}) == 10


def test_names_in_any_script_are_drawn_as_they_are(tmp_path, monkeypatch):
    log = build(tmp_path / "a $5 日本_b$ log", invented(), ("_$x$", "_y"))
    figures = []
    monkeypatch.setattr(plots, "_write", lambda figure, file: figures.append(figure))
    plot_log(log, tmp_path / "log.png")
    monkeypatch.undo()
    said = " ".join(text.get_text() for text in figures[0].findobj(match=_is_text))
    assert all(name in said for name in ("a $5 日本_b$ log", "_$x$", "_y"))
    assert plot_log(log, tmp_path / "log.png").exists()


def test_an_unknown_suffix_is_refused_before_anything_is_drawn(demo, tmp_path):
    with pytest.raises(InvalidArgument, match=r"\.png, \.svg, \.pdf.*'log.jpg'"):
        plot_log(demo, tmp_path / "log.jpg")


def test_without_matplotlib_the_extra_is_named(demo, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"recgym\[plots\]"):
        plot_log(demo, tmp_path / "log.png")


def test_a_failed_write_leaves_the_old_picture(demo, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    file = tmp_path / "log.png"
    file.write_bytes(b"old")

    def full(self, part, **options):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutOfRoom, match="No space left on device.*nothing was changed"):
        plot_log(demo, file)
    assert [f.name for f in tmp_path.iterdir()] == ["log.png"] and file.read_bytes() == b"old"


def test_the_callers_style_and_backend_are_left_alone(demo, tmp_path):
    import matplotlib

    plain = plot_log(demo, tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context({"text.color": "red", "font.size": 30, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        assert plot_log(demo, tmp_path / "styled.png").read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


def test_threads_each_get_a_picture(demo, tmp_path):
    plain = plot_log(demo, tmp_path / "plain.png").read_bytes()
    files = [tmp_path / f"{k}.png" for k in range(3)]
    threads = [threading.Thread(target=plot_log, args=(demo, file)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(file.read_bytes()[:4] == plain[:4] for file in files)


def test_neither_the_import_nor_a_plot_loads_pyplot(demo, tmp_path):
    code = (
        "import sys, recgym.plots; assert 'matplotlib' not in sys.modules;"
        "from recgym.log import InteractionLog;"
        f"recgym.plots.plot_log(InteractionLog({str(demo.path)!r}), {str(tmp_path / 'x.png')!r});"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
