"""Curves of a training: every loss, and both heads."""

import numpy as np

from recgym.curves import plot_run
from tests.training import pixels


def test_curves_show_every_loss_and_both_heads(tmp_path):
    lines = [
        {"step": step, "seconds": 1.0, "td": 0.1 / step, "supervised": 5.0,
         "ndcg@10": 0.2 - abs(step - 30) / 1000, "hr@10": 0.3, "ndcg@10 (q)": 0.1}
        for step in range(10, 60, 10)
    ]  # fmt: skip
    file = plot_run(lines, "snqn on data", tmp_path / "curves.svg")
    text = file.read_text()
    for part in ("td", "supervised", "ndcg@10", "hr@10", "ndcg@10 (q)", "at step 30"):
        assert f"<!-- {part}" in text or f"{part} -->" in text, part
    blank = pixels(plot_run(lines[:1], "one point", tmp_path / "one.png"))
    assert (np.ptp(blank.reshape(-1, 3), axis=0) > 200).all()
