"""How many workers ``"auto"`` is."""

from __future__ import annotations

from pathlib import Path

import pytest

from stickyproxy.control.cores import cores, quota_of, worker_count


def _group(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)


def test_a_number_is_that_number() -> None:
    """Only ``"auto"`` looks at the machine."""
    assert worker_count(7) == 7
    assert worker_count("auto") == cores() >= 1


def test_the_smallest_quota_above_counts(tmp_path: Path) -> None:
    """Version 2: a group has no more than those above it, whatever it says itself."""
    _group(tmp_path / "a", cpu_max="150000 100000\n")
    _group(tmp_path / "a" / "b", cpu_max="400000 100000\n")
    assert quota_of("0::/a/b\n", tmp_path) == 1.5
    assert quota_of("0::/\n", tmp_path) is None


def test_no_quota(tmp_path: Path) -> None:
    """``max`` is none, and so is a machine without control groups."""
    _group(tmp_path / "a", cpu_max="max 100000\n")
    assert quota_of("0::/a\n", tmp_path) is None
    assert quota_of("", tmp_path / "nowhere") is None


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", None)])
def test_version_1(tmp_path: Path, quota: str, expected: float | None) -> None:
    """Version 1 has a place for each controller."""
    _group(tmp_path / "cpu,cpuacct" / "x", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert quota_of("4:memory:/x\n3:cpu,cpuacct:/x\n", tmp_path) == expected


def test_a_container_sees_its_own_group_at_the_root(tmp_path: Path) -> None:
    """There the path that the kernel tells leads nowhere."""
    _group(tmp_path, cpu_max="100000 100000\n")
    assert quota_of("0::/../../docker/abc\n", tmp_path) == 1.0
