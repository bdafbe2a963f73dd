# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations and sizes."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.configuration.settings.units import LARGEST, LONGEST, SECONDS, Duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1m", 60),
        ("1h", 3600),
        ("1d", 86400),
        ("1.5h", 5400),
        ("0s", 0),
        (0, 0),
        (30, 30),
        (2.5, 2.5),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_is_a_float_of_seconds(written: object, seconds: float) -> None:
    duration = Duration.parse(written)
    assert duration == seconds
    assert duration.seconds == seconds
    assert isinstance(duration, float)


@pytest.mark.parametrize("written", ["1m", "60s", "60000ms", 60, 60.0, "1.0m"])
def test_a_duration_remembers_how_it_was_written(written: object) -> None:
    assert Duration.parse(written).text == str(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "10",
        "s",
        "10 s",
        " 10s",
        "10s ",
        "10s\n",
        "1h30m",
        "-1s",
        "+1s",
        "1e3s",
        ".5s",
        "1.s",
        "10S",
        "1M",
        "١s",
        "nans",
        "infs",
        "10sec",
        "9" * 13 + "s",
        None,
        True,
        False,
        [],
        {},
        b"10s",
        float("nan"),
        float("inf"),
        -1,
        -0.5,
        10**400,
        LONGEST + 1,
        "367d",
        1e308,
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration such as|negative|longer than a year"):
        Duration.parse(written)


def test_a_duration_survives_copying_with_its_text() -> None:
    duration = Duration.parse("1m")
    for twin in (copy.copy(duration), copy.deepcopy(duration), pickle.loads(pickle.dumps(duration))):
        assert (twin, twin.text) == (60, "1m")


@given(number=st.integers(0, LONGEST // 86400), unit=st.sampled_from(sorted(SECONDS)))
def test_every_whole_number_with_a_unit_is_that_many_units(number: int, unit: str) -> None:
    assert Duration.parse(f"{number}{unit}") == pytest.approx(number * float(SECONDS[unit]))


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_anything_is_either_a_sensible_duration_or_refused(written: object) -> None:
    try:
        duration = Duration.parse(written)
    except ValueError:
        return
    assert 0 <= duration <= LONGEST
    assert duration.text == str(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        (1048576, 2**20),
        ("1B", 1),
        ("512KiB", 512 * 1024),
        ("20MiB", 20 * 2**20),
        ("1GiB", 2**30),
        ("1.5KiB", 1536),
        ("1kB", 1000),
        ("1KB", 1000),
        ("3MB", 3_000_000),
        ("1GB", 10**9),
    ],
)
def test_a_size_is_a_number_of_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    [
        "",
        "20",
        "MiB",
        "20 MiB",
        "20mib",
        "20M",
        "20Mi",
        "20kiB",
        "-1B",
        "0B",
        "0.3B",
        "1.0001KiB",
        "20MiB\n",
        "1TiB",
        *[0, -1, True, 1.0, 1e6, None, [], float("nan"), LARGEST + 1, 10**400, "999999999999GiB"],
    ],
)
def test_what_is_no_size_is_refused_with_what_to_write(written: object) -> None:
    with pytest.raises(ValueError, match=r"size such as|at least one byte|whole number of bytes|terabyte"):
        parse_size(written)


@given(st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.booleans(), st.none(), st.lists(st.integers())))
def test_anything_is_either_a_sensible_size_or_refused(written: object) -> None:
    try:
        size = parse_size(written)
    except ValueError:
        return
    assert 1 <= size <= LARGEST
    assert type(size) is int
