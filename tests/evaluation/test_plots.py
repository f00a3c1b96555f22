"""Figures show every network and structure, and are the same bytes for the same results."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bids_deepmrseg.evaluation.logs import TrainingLog
from bids_deepmrseg.evaluation.plots import (
    COLORS,
    draw_bland_altman,
    draw_boxes,
    draw_curves,
    limits_of_agreement,
)
from tests.evaluation.made import make_result

N_SCANS = 6
RESULTS = tuple(
    make_result(
        f"sub-{n}",
        structure,
        0.7 + n / 50,
        network=network,
        volume_ml=1 + n / 10,
        reference_volume_ml=1.01 + n / 9,
    )
    for network in ("deepmrseg", "unet")
    for n in range(N_SCANS)
    for structure in ("Left Blob", "Right Blob")
)


def texts(file: Path) -> list[str]:
    """What a figure says, in the order in which it is drawn."""
    svg = ET.parse(file).getroot()
    return [t.strip() for e in svg.iter() if e.tag.endswith("text") for t in e.itertext()]


def dots(file: Path, color: str) -> int:
    """Lines without length of one colour."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', file.read_text("utf-8"))
    of_color = [d for d, style in paths if color.lower() in style.lower()]
    return sum(len(re.findall(r"M ([\d.]+ [\d.]+)\nL \1\n", d)) for d in of_color)


def test_boxes_name_every_structure_network_and_unit(tmp_path: Path) -> None:
    draw_boxes(RESULTS, tmp_path / "boxes.svg")
    said = texts(tmp_path / "boxes.svg")
    assert {"Left Blob", "Right Blob", "UNet", "DeepMRSeg", "F1 (Dice)", "HD95 (mm)"} <= set(said)


def test_a_structure_that_was_never_measured_leaves_its_box_out(tmp_path: Path) -> None:
    missed = make_result("sub-0", "Lost Blob", 0, hd95_mm=float("nan"), volume_ml=0)
    draw_boxes((*RESULTS, missed), tmp_path / "boxes.svg")
    assert "Lost Blob" in texts(tmp_path / "boxes.svg")


def test_volumes_have_a_dot_per_scan_and_say_bias_and_limits(tmp_path: Path) -> None:
    draw_bland_altman(RESULTS, tmp_path / "volumes.svg")
    for network in ("unet", "deepmrseg"):
        assert dots(tmp_path / "volumes.svg", COLORS[network]) == 2 * N_SCANS
    said = texts(tmp_path / "volumes.svg")
    difference = [n / 10 - n / 9 - 0.01 for n in range(N_SCANS)]
    bias, reach = np.mean(difference), 1.96 * np.std(difference, ddof=1)
    line = f"{bias:+.3f} ({bias - reach:+.3f} to {bias + reach:+.3f})"
    assert said.count(line) == 2 * 2
    assert said.count("UNet") == said.count("DeepMRSeg") == 2
    assert "segmented less reference volume (ml)" in said


def test_limits_worked_out_by_hand() -> None:
    found = limits_of_agreement(np.array([1.0, 3.0]), np.array([0.0, 0.0]))
    assert found == pytest.approx((2 - 1.96 * 2**0.5, 2, 2 + 1.96 * 2**0.5))


def test_curves_have_a_line_per_network(tmp_path: Path) -> None:
    logs = [
        TrainingLog(
            task="made",
            name=name,
            epochs=(1, 2, 3),
            loss=(1.5, 1.0, 0.9),
            mean_f1=(0.1, 0.5, 0.6),
            n_steps=450,
            training_s=60,
        )
        for name in ("unet_axial_1", "unet_axial_2", "deepmrseg_coronal_1")
    ]
    draw_curves(logs, tmp_path / "curves.svg")
    said = texts(tmp_path / "curves.svg")
    assert {"UNet axial", "DeepMRSeg coronal", "epoch"} <= set(said)
    lines = re.findall(r'<path d="(?:[ML] [\d. ]+\n){3}"', (tmp_path / "curves.svg").read_text())
    assert len(lines) == 2 * len(logs) + 2  # one in each panel, and two in the legend


def test_the_same_results_give_the_same_bytes_without_a_date(tmp_path: Path) -> None:
    for name in ("first.svg", "second.svg"):
        draw_boxes(RESULTS, tmp_path / name)
    first = (tmp_path / "first.svg").read_bytes()
    assert first == (tmp_path / "second.svg").read_bytes()
    assert b"dc:date" not in first
    assert len(first) < 60_000
