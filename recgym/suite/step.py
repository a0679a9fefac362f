"""A step: what one process does for a suite."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any, Literal

from recgym.agent import load_agent
from recgym.evaluation.report import code_of
from recgym.evaluation.tasks import EvaluatedSplit
from recgym.log import sha256_of_json

Kind = Literal["data", "tuning", "seed", "report"]


@dataclass(frozen=True)
class Step:
    """What one process does."""

    kind: Kind
    row: str
    benchmark: str
    agent: str = ""
    seeds: tuple[int, ...] = ()
    options: Mapping[str, Any] | None = None  # that differ from defaults; None: not chosen yet
    tried: str = ""  # which of them are, where some are

    @cached_property
    def key(self) -> str:
        """The same for steps that are the same work, whatever row asks for it."""
        about = asdict(self) | {"tried": ""} | ({} if self.options is None else {"row": ""})
        return sha256_of_json(about)

    @property
    def split(self) -> EvaluatedSplit:
        """The split that is evaluated."""
        return "validation" if self.kind == "tuning" else "test"

    @property
    def code(self) -> dict[str, Any] | None:
        """Where the code of its agent comes from."""
        return code_at(self.agent) if self.agent else None

    def __str__(self) -> str:
        """For people."""
        if self.kind == "data":
            return f"data of {self.benchmark}"
        seed = f"seed {' '.join(map(str, self.seeds))}"
        what = {"tuning": f"tuning {self.tried}", "report": "report"}.get(self.kind, seed)
        return f"{self.row} on {self.benchmark}, {what}"


@cache
def code_at(agent: str) -> dict[str, Any]:
    """Where the code of an agent comes from, as it was when this process first asked."""
    return code_of(load_agent(agent))
