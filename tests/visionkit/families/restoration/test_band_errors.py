"""The squared error of an image by band: what has one frequency is of one band, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.families.restoration.analysis import BANDS, ImageAnalysis, band_energy


@pytest.mark.parametrize(("cycles", "band"), [(2, 0), (10, 1), (20, 2), (40, 3)])
def test_a_wave_is_entirely_of_its_band(cycles, band):
    # 128 pixels hold 64 cycles at most, so these are 1/32, 5/32, 5/16 and 5/8 of the highest frequency.
    wave = 10 * np.sin(2 * np.pi * cycles * np.arange(128) / 128)[None].repeat(128, axis=0)
    energy = band_energy(wave)
    assert energy[band] == pytest.approx(50) and energy.sum() == pytest.approx(50)
    truth = np.full((128, 128, 3), 100, np.uint8)
    analysis = ImageAnalysis()
    analysis.add_pixels((100 + wave[:, :, None]).round().clip(0, 255).astype(np.uint8).repeat(3, axis=2), truth)
    analysis.rows.append({"image": "wave"})
    rows = analysis.tables()["error breakdown"]
    assert rows[band]["of squared error"] > 0.99, "but for the rounding"
    assert rows[band]["dPSNR"] == max(row["dPSNR"] for row in rows) and rows[band]["dPSNR"] > 20


def test_bands_add_up_to_the_squared_error_and_blur_keeps_less_detail():
    truth = np.random.default_rng(0).integers(0, 256, (60, 81, 3), dtype=np.uint8)
    blurred = (truth.astype(float) + np.roll(truth, 1, axis=1)) / 2
    error = blurred - truth
    assert band_energy(error).sum() == pytest.approx(np.square(error).mean())
    analysis = ImageAnalysis()
    analysis.add_pixels(blurred.astype(np.uint8), np.pad(truth, ((0, 1), (0, 1), (0, 0))))
    analysis.rows.append({"image": "noise"})
    kept = [row["detail kept"] for row in analysis.tables()["error breakdown"]]
    assert kept[0] == pytest.approx(1, abs=0.02) and kept[3] < 0.7
    assert len(kept) == len(BANDS)
