"""What is known of items in words: from the log of which a dataset was exported, or its world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minari.dataset.minari_dataset import MinariDataset

from recgym.errors import BadLog, InvalidArgument
from recgym.home import load_log
from recgym.log import sha256_of_json

_DOMAINS = {"movielens": "movies", "lastfm": "tracks"}  # by the source of a log; others: products
_NO_TEXT = ("item", "raw_id")  # columns of a catalogue that say nothing of an item


@dataclass(frozen=True)
class Catalogue:
    """The texts of all items, by field, and the domain that their source suggests."""

    domain: str
    items: Sequence[Mapping[str, str]]

    @property
    def sha256(self) -> str:
        """One hash of all texts."""
        return sha256_of_json({"items": self.items})


def catalogue_of(dataset: MinariDataset) -> Catalogue:
    """The texts of the items that a dataset's actions name."""
    about = dataset.storage.metadata
    if "oracle" in about:
        world = dataset.recover_environment().unwrapped.users.catalogue
        topics = world.topics.tolist()
        items = [{"title": title, "topics": world.topic_names[topic]}
                 for title, topic in zip(world.titles, topics, strict=True)]  # fmt: skip
        return Catalogue("books", items)
    known = about.get("log")
    if not known:
        raise InvalidArgument(
            f"{dataset.id} names no log of which it was exported, so its items have no words: "
            "export it with `recgym data export`."
        )
    log = load_log(known["name"])
    if log.manifest.digest != known["digest"]:
        raise BadLog(
            f"The log {known['name']} has changed since {dataset.id} was exported of it: export it "
            "again, or build the log as it was."
        )
    columns = {name: log.catalogue.column(name).to_pylist()
               for name in log.catalogue.schema.names if name not in _NO_TEXT}  # fmt: skip
    items = [{name: _text(values[item]) for name, values in columns.items()}
             for item in range(log.n_items)]  # fmt: skip
    return Catalogue(_DOMAINS.get(known["source"]["name"], "products"), items)


def _text(value: object) -> str:
    """A field as it is said: several topics with commas between them."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value).replace("|", ", ")
