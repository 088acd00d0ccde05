"""examples/congestion_aimd.py: an algorithm of a user's own, and the picture of its window beside CUBIC's and Reno's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.programs.runs import afinet_run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "congestion_aimd.py"


def test_three_algorithms_fill_the_link_each_in_its_own_way_and_are_drawn(tmp_path: Path) -> None:
    stdout = afinet_run(str(EXAMPLE), cwd=tmp_path).stdout
    found = re.findall(r"^(\w+) +([\d.]+) Mbit/s, window (\d+) to (\d+) packets", stdout, re.MULTILINE)
    assert [name for name, *_ in found] == ["cubic", "reno", "aimd"]
    least, most = {}, {}
    for name, rate, low, high in found:
        assert 9.0 < float(rate) < 10.0
        least[name], most[name] = int(low), int(high)
        # the link holds 60 packets in its queue and some 34 under way
        assert 85 < most[name] < 105
    # what each leaves of its window: 0.7, 1/2, 3/4
    for name, share in (("cubic", 0.7), ("reno", 0.5), ("aimd", 0.75)):
        assert abs(least[name] / most[name] - share) < 0.06, name
    svg = ElementTree.fromstring((tmp_path / "congestion_aimd.svg").read_text())
    curves = [e for e in svg.iter() if e.tag.endswith("path") and e.get("fill") == "none"]
    assert len(curves) == 3 and all(len(curve.get("d", "")) > 1000 for curve in curves)
