"""Open Bandit: impressions that a known policy chose, with true propensities and positions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from recgym.build import Tables
from recgym.kinds import Kind, Number, Text, Time
from recgym.raw import RawFiles
from recgym.reading import read_text

if TYPE_CHECKING:
    from recgym.engine import Engine

ID = Number(0, whole=True)


@dataclass(frozen=True)
class Source:
    """Fashion items shown at one of three places of a page, and whether they were clicked."""

    needs: ClassVar[str] = "open_bandit_dataset.zip or its folder"
    policy: Literal["random", "bts"] = "random"  # the policy that chose: uniform, or Thompson's
    campaign: Literal["all", "men", "women"] = "men"  # the items that could be shown

    def tables(self, raw: RawFiles, engine: "Engine") -> Tables:
        """Nobody is followed from one impression to the next, so each is a session of its own."""
        raw = raw.within(self.policy, self.campaign)
        columns: dict[str, Kind] = {
            "timestamp": Time("iso", since=2019),
            "item_id": ID,
            "position": Number(1, 255, whole=True),
            "click": Number(0, 1, whole=True),
            "propensity_score": Number(1e-9, 1),
        }
        shown = read_text(engine, raw.need(f"{self.campaign}.csv"), columns)
        names = {"item": "item_id", "time": "timestamp", "slot": "position", "behaviour": "click"}
        columns = {"item_id": ID} | {f"item_feature_{k}": Text() for k in (1, 2, 3)}
        items = read_text(engine, raw.need("item_context.csv"), columns, stage="reading items")
        topics = items.item_feature_1 + "|" + items.item_feature_2 + "|" + items.item_feature_3
        return Tables(
            shown.rename(names | {"propensity": "propensity_score", "user": "row"}),
            behaviours=("skip", "click"),
            positive=("click",),
            items=items.select(item="item_id", topics=topics),
            user="impression",
            rewards="binary",
            notes=("Features of users and user-item affinities are not read.",),
        )
