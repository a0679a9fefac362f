"""What was learned before, for a training that would learn the very same again.

One agent may be asked in two shops, and three algorithms may begin with one imitation: what is
learned alike is learned once. What that took counts wherever it is taken up.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recgym.home import whole_folder
from recgym.log import sha256_of_json

_COSTS = "costs.json"


class Before:
    """Whole agents, and first phases, by all that they depend on; without a folder, none are known.

    It measures the training that asks, too: its seconds, and the most memory of this process.
    """

    def __init__(self, folder: Path | None, same: Mapping[str, Any]) -> None:
        """Begin to measure. `same` is what all that is learned by this training depends on."""
        self._folder, self._same = folder, same
        self._taken_up = {"seconds": 0.0, "megabytes": 0.0}
        self._began = time.perf_counter()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak so far
            self._resettable = True
        except OSError:
            self._resettable = False

    def find(self, of: Mapping[str, Any]) -> Path | None:
        """The folder in which that was kept, if it was; what it took counts from now on."""
        place = self._place(of)
        if place is None or not place.is_dir():
            return None
        costs = json.loads((place / _COSTS).read_text(encoding="utf-8"))
        self._taken_up["seconds"] += costs["seconds"]
        self._taken_up["megabytes"] = max(self._taken_up["megabytes"], costs["megabytes"])
        return place

    def keep(self, of: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Keep what this training has come to, if nobody has: whole, or not at all."""
        place = self._place(of)
        if place is not None and not place.exists():
            with whole_folder(place, "What was learned") as draft:
                write(draft)
                costs = {"seconds": self.seconds, "megabytes": self.megabytes}
                (draft / _COSTS).write_text(json.dumps(costs), encoding="utf-8")

    @property
    def seconds(self) -> float:
        """How long this training has taken by now."""
        return time.perf_counter() - self._began + self._taken_up["seconds"]

    @property
    def megabytes(self) -> float:
        """The most memory that was held by now."""
        if self._resettable:
            status = Path("/proc/self/status").read_text()
            kilobytes = int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
        else:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            kilobytes //= 1024 if sys.platform == "darwin" else 1
        return max(kilobytes / 1024, self._taken_up["megabytes"])

    def _place(self, of: Mapping[str, Any]) -> Path | None:
        return self._folder and self._folder / sha256_of_json({**self._same, "of": dict(of)})
