"""Random draws by counter: who, which episode, which step and which draw decide each of them.

So a thousand users in one batch and a thousand environments draw the same, in any order.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_STEP = 1 << 32  # draws that a step has room for


def origins_of(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What all draws of a seed come from."""
    return _mixed(seeds + np.uint64(_GOLDEN))


def keys_of(origins: NDArray[np.uint64], episodes: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What all draws of an episode come from."""
    return _mixed(origins + episodes.view(np.uint64) * np.uint64(_GOLDEN))


def uniforms(
    keys: NDArray[np.uint64], steps: NDArray[np.int64] | int, draw: NDArray[np.int64] | int = 0
) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each key, or for each key and draw as they broadcast."""
    counters = np.asarray(steps * _STEP + draw + 1, np.int64).view(np.uint64)
    return shares_of(_mixed(keys + counters * np.uint64(_GOLDEN)))


def shares_of(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Whole numbers of 64 bits as numbers in [0, 1)."""
    return ((bits >> np.uint64(11)) * 2.0**-53).astype(np.float64, copy=False)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea & Flood 2014, variant 13 of Stafford)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
