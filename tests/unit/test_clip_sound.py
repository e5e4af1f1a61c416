"""ITU-R BS.1770-4 and EBU Tech 3341's minimum requirements, in mono."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from udfs.clip_sound import NO_SOUND, SoundMeter
from udfs.loudness import FLOOR_LUFS, RATE_HZ, Loudness, k_weighting

MONO_LU = -3.01  # one channel of two


def tone(level_dbfs: float, seconds: float, hz: float = 1000, rate_hz: int = RATE_HZ) -> np.ndarray:
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def lufs(*sounds: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    meter = Loudness(rate_hz)
    for sound in sounds:
        meter.add(sound)
    return meter.lufs()


def test_the_filters_are_the_standards_at_48_khz() -> None:
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    shelf += [1, -1.69065929318241, 0.73248077421585]
    highpass = [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]
    assert k_weighting(48_000) == pytest.approx(np.array([shelf, highpass]), abs=1e-8)


def test_the_filters_at_16_khz_weigh_as_those_at_48_khz() -> None:
    hz = np.array([30, 60, 100, 500, 1000, 2000, 4000])
    _, here = signal.sosfreqz(k_weighting(RATE_HZ), hz, fs=RATE_HZ)
    _, there = signal.sosfreqz(k_weighting(48_000), hz, fs=48_000)
    assert 20 * np.log10(np.abs(here / there)) == pytest.approx(np.zeros(len(hz)), abs=0.2)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_full_scale_tone_of_997_hz_in_one_channel_has_minus_3_01_lkfs(rate_hz) -> None:
    assert lufs(tone(0, 5, 997, rate_hz), rate_hz=rate_hz) == pytest.approx(MONO_LU, abs=0.05)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(-23, 20)], -23),
        ([(-33, 20)], -33),
        ([(-36, 10), (-23, 60), (-36, 10)], -23),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23),
    ],
)
def test_the_ebus_signals_are_within_a_tenth_of_a_unit(parts, expected) -> None:
    sounds = [tone(*part) for part in parts]
    assert lufs(*sounds) - MONO_LU == pytest.approx(expected, abs=0.1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 30_000), max_size=8))
def test_how_sound_is_cut_into_blocks_does_not_matter(cuts) -> None:
    sound = np.concatenate([tone(-20, 1), np.zeros(4000, np.float32), tone(-35, 0.77, 300)])
    meter, whole = SoundMeter(), SoundMeter()
    for part in np.split(sound, sorted(min(cut, len(sound)) for cut in cuts)):
        meter.add(part)
    whole.add(sound)
    assert meter.measured() == pytest.approx(whole.measured())


def test_silence_is_counted_by_windows_of_100_ms() -> None:
    meter = SoundMeter()
    meter.add(np.concatenate([tone(-20, 3), np.zeros(RATE_HZ, np.float32)]))
    found = meter.measured()
    assert found == (True, pytest.approx(-20 + MONO_LU, abs=0.2), 0.25)
    assert meter.measured() == found


@pytest.mark.parametrize(("level_dbfs", "silent"), [(-56, 0), (-58, 1)])
def test_silence_is_a_level_under_minus_60_db(level_dbfs, silent) -> None:
    meter = SoundMeter()
    meter.add(tone(level_dbfs, 1))  # a sine's level is 3 dB under its peak
    assert meter.measured().silence_fraction == silent


def test_no_sound_is_false_and_not_null() -> None:
    assert SoundMeter().measured() == NO_SOUND == (False, None, None)
    meter = SoundMeter()
    meter.add(np.empty(0, np.float32))
    assert meter.measured() == NO_SOUND


def test_digital_silence_is_sound_at_the_floor() -> None:
    meter = SoundMeter()
    meter.add(np.zeros(RATE_HZ, np.float32))
    assert meter.measured() == (True, FLOOR_LUFS, 1)
    assert Loudness().lufs() == FLOOR_LUFS


@pytest.mark.parametrize("samples", [1, 100, 1599, 1600, 1601, 6399, 6400])
def test_sound_of_any_length_has_values(samples) -> None:
    meter = SoundMeter()
    meter.add(tone(-10, 1, 4000)[:samples])
    assert np.isfinite(meter.measured()).all()
    assert meter.measured().silence_fraction in (0, 1)


@settings(deadline=None, max_examples=50)
@given(st.lists(arrays(np.float32, st.integers(0, 3000)), max_size=4))
def test_broken_samples_spoil_nothing(blocks) -> None:
    meter = SoundMeter()
    for block in blocks:
        meter.add(block)
    meter.add(tone(-20, 3))
    found = meter.measured()
    assert np.isfinite(found).all()
    assert FLOOR_LUFS <= found.loudness_lufs < 10
    assert 0 <= found.silence_fraction <= 1
