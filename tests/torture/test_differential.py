"""The corpus of requests through HAProxy, nginx and stickyproxy: every difference is known, and judged."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "live")]

from corpus import REQUESTS  # noqa: E402
from differences import JUDGEMENTS, judgement, table  # noqa: E402
from differential import (  # noqa: E402
    LANES,
    Lane,
    Seen,
    haproxy_configuration,
    nginx_configuration,
    our_configuration,
    run_all,
    verdict,
)
from parts import Program, Proxy, free_port  # noqa: E402

CASES = {f"{subject}/{case.name}": case for subject, cases in REQUESTS.items() for case in cases}
Lanes = dict[str, list[Lane]]


def through_all(lanes: Lanes, keys: list[str], *, quiet: float, patience: float) -> dict[str, tuple[str, str, str]]:
    """The verdicts of stickyproxy, HAProxy and nginx."""

    async def run() -> list[dict[str, Seen]]:
        chosen = [(key, CASES[key]) for key in keys]
        return await asyncio.gather(*(run_all(one, chosen, quiet, patience) for one in lanes.values()))

    ours, haproxy, nginx = asyncio.run(run())
    return {key: tuple(verdict(seen[key], CASES[key]) for seen in (ours, haproxy, nginx)) for key in keys}  # type: ignore[misc]


def unjudged(found: dict[str, tuple[str, str, str]]) -> dict[str, tuple[str, str, str]]:
    """The differences that no judgement allows; those cases left out that stickyproxy itself has not as they say."""
    new = {}
    for key, verdicts in found.items():
        as_told = "refused" if CASES[key].refused else "passed"
        if verdicts[0] == as_told and len(set(verdicts)) > 1:
            known = judgement(key)
            if known is None or not known.allows(*verdicts):
                new[key] = verdicts
    return new


@pytest.mark.needs("nginx", "haproxy")
def test_every_difference_is_judged(needs: Callable[[str], str], tmp_path: Path) -> None:
    """Where HAProxy or nginx do otherwise with the same bytes it is known why, and who is right by the RFCs."""
    lanes = {name: [Lane(free_port(), free_port()) for _ in range(LANES)] for name in ("ours", "haproxy", "nginx")}
    (tmp_path / "haproxy.cfg").write_text(haproxy_configuration(lanes["haproxy"]))
    (tmp_path / "nginx.conf").write_text(nginx_configuration(tmp_path, lanes["nginx"]))
    (tmp_path / "ours").mkdir()
    with (
        Proxy(tmp_path / "ours", our_configuration(lanes["ours"])),
        Program(needs("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"),
        Program(needs("nginx"), "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"),
    ):
        asyncio.run(listening([lane.port for each in lanes.values() for lane in each]))
        found = through_all(lanes, list(CASES), quiet=0.15, patience=4)
        # What a busy machine was late with is given time
        new = unjudged(found)
        again = unjudged(through_all(lanes, list(new)[:60], quiet=1, patience=8))
    assert not again, f"not judged in differences.py (stickyproxy, HAProxy, nginx): {again}"
    assert sum(verdicts[0] == verdicts[1] == verdicts[2] for verdicts in found.values()) > len(found) / 3


async def listening(ports: list[int]) -> None:
    """Wait until all of ``ports`` take connections."""
    for port in ports:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        else:
            raise AssertionError(f"nobody listens on {port}")


def test_every_judgement_is_of_a_case() -> None:
    """A judgement whose cases are gone is gone, too."""
    judged = [judgement(key) for key in CASES]
    assert [one.what for one in JUDGEMENTS if one not in judged] == []


def test_the_page_has_the_table() -> None:
    """docs/security.md tells what ``python tests/torture/differences.py`` prints."""
    assert table() in (HERE.parent.parent / "docs" / "security.md").read_text()
