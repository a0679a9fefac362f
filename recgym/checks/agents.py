"""The contract of agents: what evaluation, and whoever repeats it, relies on."""

import copy
import inspect
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, get_args

import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import Source, has_chance, load_agent, training_data
from recgym.checks.faults import (
    difference,
    overwrite,
    passed,
    plain,
    refuses,
    short,
    typed,
    watched,
)
from recgym.checks.trials import ROWS, ShopTrial, Trial, as_if, generators, roll_outs, shoppers
from recgym.errors import CheckFailed, InvalidArgument, printable
from recgym.export import local_dataset
from recgym.minari_format import content_hash
from recgym.shop.pages import LONGEST, QUERY

_PARAMETERS = {
    "fit": ("self", "train", "validation=None", "env=None"),
    "act": ("self", "observations", "infos"),
    "scores": ("self", "observations", "infos"),
    "save": ("self", "folder"),
    "load": ("cls", "folder"),
}
_LITTLE = {  # is enough
    "save": ", of two lines such as folder.mkdir(parents=True, exist_ok=True) and "
    "np.save(folder / 'counts.npy', self._counts)",
    "load": ", of three lines such as agent = cls(), agent._counts = np.load(folder / "
    "'counts.npy') and return agent",
}
_SLIPS = (AttributeError, IndexError, KeyError, NameError, TypeError, UnboundLocalError)
_PICKLES = {".d3", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_OF_SHOPS = ("goal", "page", "actions")  # infos that no other environment has
_ALONE = 7  # users who are asked for alone
_ROUNDING = 1e-5  # of the greatest score of a user


def check_agent(
    agent_or_name: Any, dataset: MinariDataset | str | None = None, **options: Any
) -> tuple[str, ...]:
    """Check an agent, and return what was found to hold, in sentences.

    A class of agents, or the name of one, learns twice from the dataset, with these options;
    without a dataset, from a few oracle users, who leave no trace; where it says `shops = True`,
    from a few shoppers. An agent that has learned
    already is asked about a dataset such as it knows.
    """
    given = not isinstance(agent_or_name, str | type)
    if given and (options or dataset is None):
        raise InvalidArgument(
            f"{type(agent_or_name).__name__} is an agent that has learned already: give the "
            "dataset whose observations it is to be asked about, and no options."
        )
    kind = type(agent_or_name) if given else agent_or_name
    kind = load_agent(kind) if isinstance(kind, str) else kind
    with TemporaryDirectory() as name:
        folder = Path(name)
        little = shoppers if getattr(kind, "shops", False) else roll_outs
        data = little(folder / "data") if dataset is None else local_dataset(dataset)
        shops = isinstance(data.action_space, spaces.Text)
        of = ShopTrial if shops else Trial
        trial = of(kind, options, data, folder / "saved", given)
        checks: list[Callable[..., None]] = [
            _it_is_called_as_agents_are,
            _it_says_what_it_learns_from,
        ]
        if given:
            trial.learned = agent_or_name
        else:
            training_data(data)
            trial.new()  # what cannot be made says so in its own words
            trial.content = _content(data)
            checks += [
                _options_of_nobody_are_refused,
                *([] if shops else [_nothing_is_recommended_before_it_has_learned]),
                _test_data_are_refused,
                _fit_learns,
                _fit_leaves_the_data_alone,
            ]
        checks += [
            _it_can_be_saved,
            _nothing_saved_is_a_pickle,
            _what_is_said_can_be_done if shops else _actions_are_items,
        ]
        if trial.ranks:
            checks.append(_each_action_has_a_score if shops else _scores_are_finite)
        checks += [
            _parameters_are_counted,
            _what_was_saved_answers_the_same,
            *([] if given else [_a_seed_decides_everything]),
            _global_generators_are_left_alone,
            _what_is_asked_is_left_alone,
            _results_are_fresh,
        ]
        found = [passed(check, trial) for check in checks]
        if trial.ranks or not trial.draws:
            decided = [_nothing_that_was_asked_is_remembered, _a_row_decides_what_is_answered]
            decided += [_infos_decide_nothing] if trial.now and not shops else []
            found += [passed(check, trial) for check in decided]
    return tuple(found)


def _content(dataset: MinariDataset) -> str:
    return f"{content_hash(dataset)} {dataset.storage.metadata}"


def _unrefused(act: Callable[..., object], *arguments: Any) -> str | None:
    """What a call did instead of raising an error in words."""
    try:
        found = act(*arguments)
    except Exception as problem:
        if type(problem) not in _SLIPS:
            return None
        return f"raised {type(problem).__name__} ({plain(problem)})"
    return f"returned {typed(found)}"


def _beyond_rounding(ones: NDArray[Any], others: NDArray[Any]) -> str | None:
    """Where two answers differ by more than rounding does, and how."""
    if ones.dtype == object:
        return difference(ones, others)
    one, other = (values.reshape(len(values), -1).astype(float) for values in (ones, others))
    apart = np.abs(one - other) > _ROUNDING * np.abs(one).max(1, keepdims=True)
    if not apart.any():
        return None
    user, place = np.argwhere(apart)[0]
    return f"for user {user}, {one[user, place]:.6g} and {other[user, place]:.6g}"


# ------------------------------------------------------------------------------------ what it is


def _it_is_called_as_agents_are(trial: Trial) -> None:
    """It has fit, act, save and load, and is called as all agents are."""
    for name, parameters in _PARAMETERS.items():
        method = getattr(trial.kind, name, None)
        if method is None and name == "scores":
            continue
        of_class = "@classmethod " if name == "load" else ""
        form = f"{of_class}def {name}({', '.join(parameters)})"
        advice = f"write {form}{_LITTLE.get(name, '')}."
        if not callable(method):
            raise CheckFailed(f"{trial.name} has no {name}(…), which agents need: {advice}")
        try:
            inspect.signature(method).bind(*parameters[bool(of_class) :])
        except TypeError as problem:
            raise CheckFailed(
                f"{trial.name}.{name} is called otherwise than agents are ({plain(problem)}): "
                f"{advice}"
            ) from None


def _it_says_what_it_learns_from(trial: Trial) -> None:
    """What it learns from is data, an environment or rules; data, where it says nothing."""
    if trial.source not in get_args(Source):
        raise CheckFailed(
            f"{trial.name}.learns_from is {short(trial.source)}: it is 'data', 'environment' "
            "where fit asks one, or 'rules' where nothing is learned."
        )


def _options_of_nobody_are_refused(trial: Trial) -> None:
    """An option that it does not have raises an error."""
    if not refuses(trial.kind, **trial.options, option_of_nobody=0):
        raise CheckFailed(
            f"{trial.name}(option_of_nobody=0) was taken: name its options one by one, without "
            "**kwargs, so that a slip of the pen does not train another agent."
        )


# ---------------------------------------------------------------------------------- how it learns


def _nothing_is_recommended_before_it_has_learned(trial: Trial) -> None:
    """As long as it has learned nothing, act raises an error in words."""
    if found := _unrefused(trial.new().act, trial.rows.copy(), {}):
        if found.endswith(tuple(f"KeyError ('{info}')" for info in _OF_SHOPS)):
            raise CheckFailed(
                f"{trial.name}.act {found}, which is among the infos of shops alone: where it is "
                "for shops, say shops = True in its class."
            )
        raise CheckFailed(
            f"Before it had learned, {trial.name}.act {found}: raise an error that says to call "
            "fit(train) or load(folder)."
        )


def _test_data_are_refused(trial: Trial) -> None:
    """A test dataset is refused by fit, for training and for validation."""
    test = as_if(trial.dataset, "test")
    for role, data in (("train", (test, trial.dataset)), ("validation", (trial.dataset, test))):
        if found := _unrefused(trial.taught, *data):
            raise CheckFailed(
                f"{trial.name}.fit was given a test dataset as {role}, and {found}: begin it "
                "with recgym.agent.training_data(train, validation), which refuses one."
            )


def _fit_learns(trial: Trial) -> None:
    """Learning comes to an end, and fit returns the agent or nothing."""
    trial.learned = trial.taught(trial.dataset, as_if(trial.dataset, "validation"))
    if not isinstance(trial.learned, trial.kind):
        raise CheckFailed(
            f"{trial.name}.fit returned {typed(trial.learned)}: return self, or nothing."
        )


def _fit_leaves_the_data_alone(trial: Trial) -> None:
    """Learning changes no dataset."""
    if _content(trial.dataset) != trial.content:
        raise CheckFailed(
            f"After {trial.name}.fit, {trial.dataset.id} was another one: copy what is to be "
            "changed, and leave the episodes, their order and the metadata as they are."
        )


def _a_seed_decides_everything(trial: Trial) -> None:
    """Two that learn with the same seed from the same data answer the same."""
    again = trial.taught(trial.dataset, as_if(trial.dataset, "validation"))
    if apart := difference(trial.heard, trial.answers(again)):
        advice = "draw from np.random.default_rng(self.seed) alone"
        if not has_chance(trial.kind):
            advice = f"take an option seed, and {advice}"
        raise CheckFailed(
            f"{trial.name} learned twice, with the same seed and from the same data, and did not "
            f"answer the same ({apart}): {advice}."
        )


def _global_generators_are_left_alone(trial: Trial) -> None:
    """Nothing draws from the generators of `random`, `numpy.random` and torch, or seeds them."""
    with watched(generators()) as touched:
        trial.answers(trial.loaded())
    for name in trial.touched + touched:
        raise CheckFailed(
            f"{trial.name} draws from the global generator of {name}, or seeds it: draw from one "
            "of its own, made of its seed, and put back what another library has seeded."
        )


# ------------------------------------------------------------------------------- how it is kept


def _it_can_be_saved(trial: Trial) -> None:
    """It is saved into a folder, be it there already or not."""
    for folder in ("that is not there yet", "into which it was saved before"):
        try:
            trial.learned.save(trial.folder)
        except OSError as problem:
            raise CheckFailed(
                f"Into a folder {folder}, {trial.name} was not saved ({plain(problem)}): begin "
                "with folder.mkdir(parents=True, exist_ok=True), and replace what is there."
            ) from problem


def _nothing_saved_is_a_pickle(trial: Trial) -> None:
    """Nothing that it saves is a pickle, or holds one."""
    for file in sorted(trial.folder.rglob("*")):
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            if _is_pickle(file.name, stream):
                raise CheckFailed(
                    f"{trial.name} saved {printable(file.name)}, which is a pickle or holds one, "
                    "and a pickle runs code when it is read: save JSON, safetensors, or arrays of "
                    "numbers by np.save."
                )


def _is_pickle(name: str, stream: IO[bytes]) -> bool:
    """Is a file a pickle, or does it hold one?"""
    begin = stream.read(6)
    stream.seek(0)
    if _PICKLES & set(Path(name).suffixes) or (begin[:1] == b"\x80" and begin[1:2] in b"\2\3\4\5"):
        return True
    if begin == np.lib.format.MAGIC_PREFIX:
        version = np.lib.format.read_magic(stream)
        formats = np.lib.format
        read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
        return bool(read(stream)[2].hasobject)
    if not zipfile.is_zipfile(stream):
        return False
    with zipfile.ZipFile(stream) as archive:
        return any(_is_pickle(part, archive.open(part)) for part in archive.namelist())


def _what_was_saved_answers_the_same(trial: Trial) -> None:
    """An agent that was saved and loaded answers the same."""
    agent = trial.loaded()
    if not isinstance(agent, trial.kind):
        raise CheckFailed(
            f"{trial.name}.load(folder) returned {typed(agent)}: return the agent that was saved."
        )
    again = trial.answers(agent)
    for name, known in trial.heard.items():
        if name == "act" and trial.given and trial.draws:
            continue  # it may have drawn before
        if apart := difference(known, again[name], name):
            raise CheckFailed(
                f"{trial.name} did not answer the same after it was saved and loaded ({apart}): "
                "save everything that fit has set, and its options, to the last digit."
            )


# ----------------------------------------------------------------------------- what it answers


def _actions_are_items(trial: Trial) -> None:
    """To each user of a batch, act recommends an item, as a whole number."""
    for size, actions in trial.heard["act"].items():
        if not (
            isinstance(actions, np.ndarray)
            and actions.shape == (size,)
            and actions.dtype.kind in "iu"
        ):
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.act returned {typed(actions)}: return an "
                f"array of shape ({size},) of whole numbers, such as scores.argmax(1)."
            )
        if actions.min() < 0 or actions.max() >= trial.n_items:
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.act returned {short(actions)}, and items "
                f"are numbers from 0 to {trial.n_items - 1}: recommend one of them."
            )


def _scores_are_finite(trial: Trial) -> None:
    """To each user of a batch, scores gives every item a finite float."""
    for size, scores in trial.heard["scores"].items():
        if not (
            isinstance(scores, np.ndarray)
            and scores.shape == (size, trial.n_items)
            and scores.dtype.kind == "f"
        ):
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.scores returned {typed(scores)}: return an "
                f"array of shape ({size}, {trial.n_items}) of floats, one for each item."
            )
        if not np.isfinite(scores).all():
            user, item = np.argwhere(~np.isfinite(scores))[0]
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.scores gave {scores[user, item]} to item "
                f"{item} for user {user}: give what is not to be recommended a score that is low, "
                "and finite."
            )


def _what_is_said_can_be_done(trial: ShopTrial) -> None:
    """To each shopper of a batch, act says one of the page's actions, or what to search for."""
    for size, actions in trial.heard["act"].items():
        texts = np.asarray(actions, object)
        if texts.shape != (size,) or not all(isinstance(text, str) for text in texts):
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.act returned {typed(actions)}: return one "
                "text for each shopper, such as search[red lamp] or click[buy now]."
            )
        for text, known in zip(texts, trial.offered_to(size), strict=True):
            if not _can_be_done(text, known):
                raise CheckFailed(
                    f"{trial.name}.act said {short(text)} where {short(known)} can be done: say "
                    f"one of the actions in the infos, and for {QUERY} words of its own, 1 to "
                    f"{LONGEST:,} characters of them."
                )


def _can_be_done(text: str, known: Sequence[str]) -> bool:
    said = text.strip().lower()
    if QUERY not in known or said == QUERY:
        return said != QUERY and said in known
    name, _, rest = said.partition("[")
    words = " ".join(rest[:-1].split())
    return name.strip() == "search" and rest[-1:] == "]" and 0 < len(words) <= LONGEST


def _each_action_has_a_score(trial: ShopTrial) -> None:
    """To each shopper of a batch, scores gives every action of the page a finite float."""
    for size, scores in trial.heard["scores"].items():
        counts = [len(known) for known in trial.offered_to(size)]
        if not isinstance(scores, list | tuple | np.ndarray) or len(scores) != size:
            raise CheckFailed(
                f"For a batch of {size}, {trial.name}.scores returned {typed(scores)}: return a "
                "list of arrays, one for each shopper."
            )
        for some, count in zip(scores, counts, strict=True):
            if not (
                isinstance(some, np.ndarray)
                and some.shape == (count,)
                and some.dtype.kind == "f"
                and np.isfinite(some).all()
            ):
                raise CheckFailed(
                    f"{trial.name}.scores gave {typed(some)} to a shopper who can do {count} "
                    "things: give an array of floats, one for each action in the infos, and all "
                    "of them finite."
                )


def _parameters_are_counted(trial: Trial) -> None:
    """Its parameters, where it counts them, are a whole number."""
    count = getattr(trial.learned, "parameters", 0)
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
        raise CheckFailed(
            f"{trial.name}.parameters is {typed(count)}: make it a property that returns how many "
            "numbers were learned, or call it otherwise."
        )


def _what_is_asked_is_left_alone(trial: Trial) -> None:
    """Observations and infos are left as they are."""
    agent = trial.loaded()
    known = {"observations": trial.rows, "infos": trial.now}
    for name in ("act", "scores") if trial.ranks else ("act",):
        given = copy.deepcopy(known)
        getattr(agent, name)(given["observations"], given["infos"])
        if apart := difference(known, given):
            raise CheckFailed(
                f"{trial.name}.{name} changed what it was given ({apart}): work on a copy."
            )


def _results_are_fresh(trial: Trial) -> None:
    """What it returned never changes later, and may be overwritten."""
    agent = trial.loaded()
    returned = [(name, found, copy.deepcopy(found)) for name, _, _, found in trial.asked(agent)]
    for name, found, then in returned:
        if apart := difference(then, found, name):
            raise CheckFailed(
                f"What {trial.name} returned has changed when it was asked again ({apart}): "
                "return a new array each time, not a buffer that is filled again."
            )
    agent = trial.loaded()
    known = [trial.answers(agent) for _ in range(2)]
    agent = trial.loaded()
    for answers in known:
        for name, some, given, found in trial.asked(agent):
            before, size = given.copy(), some.stop - some.start
            apart = difference(answers[name][size], found, f"{name}/{size}")
            overwrite(found)
            if apart := apart or difference(before, given, "observations"):
                raise CheckFailed(
                    f"Overwriting what {trial.name} returned changed more than that ({apart}): "
                    "return copies, not what it keeps and not parts of what it was given."
                )


# ---------------------------------------------------------------------------- what it goes by


def _nothing_that_was_asked_is_remembered(trial: Trial) -> None:
    """The same question has the same answer, whatever was asked in between."""
    agent, half = trial.loaded(), ROWS // 2
    first, *_, again = (
        trial.decided(agent, some)
        for some in (slice(half), slice(half, None), slice(None), slice(half))
    )
    if apart := difference(first, again, trial.answer):
        raise CheckFailed(
            f"{trial.name} was asked the same again, after other questions, and did not answer "
            f"the same ({apart}): keep nothing of what is asked, or it learns from test data, and "
            "draw in act alone."
        )


def _a_row_decides_what_is_answered(trial: Trial) -> None:
    """A user is answered the same alone, among others, and in another order of them."""
    agent = trial.loaded()
    together, turned = (trial.decided(agent, slice(None, None, step)) for step in (1, -1))
    alone = [trial.decided(agent, slice(user, user + 1)) for user in range(_ALONE)]
    for how, found in (("alone", np.concatenate(alone)), ("in another order", turned[::-1])):
        if apart := _beyond_rounding(together[: len(found)], found):
            raise CheckFailed(
                f"The {trial.answer} of {trial.name} for users together and {how} are not the "
                f"same ({apart}): let the row of a user decide, and no other row of the batch."
            )


def _infos_decide_nothing(trial: Trial) -> None:
    """Observations alone decide: infos, even those of the next step, change nothing."""
    agent = trial.loaded()
    without = trial.decided(agent)
    for when, infos in (("that moment", trial.now), ("the next step", trial.later)):
        if apart := _beyond_rounding(without, trial.decided(agent, infos=infos)):
            raise CheckFailed(
                f"The {trial.answer} of {trial.name} without infos and with those of {when} are "
                f"not the same ({apart}): go by observations alone, as infos may tell what came "
                "of a recommendation."
            )
