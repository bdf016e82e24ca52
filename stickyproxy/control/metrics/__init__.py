"""What Prometheus is told: families of samples, read when they are asked for, merged over processes, written. Floor 5.

``families`` declares them all, ``reading`` finds the values, ``merging`` joins those of several processes, and
``exposition`` writes them in the formats that Prometheus reads.
"""

from stickyproxy.control.metrics.exposition import exposition
from stickyproxy.control.metrics.lag import Lag
from stickyproxy.control.metrics.merging import Gathered, merge
from stickyproxy.control.metrics.reading import Measures, samples

__all__ = ["Gathered", "Lag", "Measures", "exposition", "merge", "samples"]
