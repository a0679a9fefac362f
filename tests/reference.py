"""What a log must hold, worked out slowly: lists, dicts and loops, and nothing of recgym."""

from collections import Counter
from dataclasses import dataclass, field, replace

PRIME = 2**31 - 1
MINUTE = 60_000_000
SPLITS = ("train", "validation", "test", "context")


@dataclass(frozen=True)
class Event:
    """One row of a raw table."""

    user: int | str
    item: int | str
    behaviour: str
    time: int
    row: int = 0
    rank: int = 0  # of the behaviour in the raw table
    value: float = 0.0
    propensity: float = 1.0
    slot: int = 1
    visit: int = 0
    split: str = ""

    @property
    def session(self):
        return (self.user, self.visit)


@dataclass
class Log:
    """The log that should come out."""

    sessions: list = field(default_factory=list)  # lists of events, in their final order
    cuts: list = field(default_factory=list)
    items: list = field(default_factory=list)  # raw ids by number: known ones, then unseen ones
    n_items: int = 0
    rewards: list = field(default_factory=list)
    in_state: list = field(default_factory=list)
    terminated: list = field(default_factory=list)

    @property
    def rows(self):
        return [event for session in self.sessions for event in session]

    def seen(self, position, after=False):
        """The rows in state before a row in its session; with `after`, the row itself too."""
        first = 0
        for session in self.sessions:
            if position < first + len(session):
                break
            first += len(session)
        return [k for k in range(first, position + after) if self.in_state[k]]

    def history(self, position, length, after=False):
        """The last items that were seen, oldest first, then pads."""
        rows = self.rows
        codes = [self.items.index(rows[k].item) for k in self.seen(position, after)[-length:]]
        return codes + [self.n_items] * (length - len(codes))


def reference_log(events, protocol, positive, user="person", timed=True):
    """The log of these events, or None where nothing is left to build or to train on."""
    visits = user == "visit" or protocol.gap is not None
    split = protocol.split or ("session-time" if visits else "event-time")
    natural = "always" if user == "impression" else "shown" if visits else "never"
    ends = protocol.ends or natural
    if ends == "shown" and not timed:
        ends = "never"

    events = renamed(events, protocol)
    if protocol.gap is not None:
        events = cut_by_gap(events, protocol.gap)
    events, drawn = filtered(events, protocol, positive)
    if not events:
        return None
    log = Log(sessions=ordered(events, drawn, protocol))
    if split == "event-time":
        split_by_event_time(log, protocol.cuts)
    elif split == "session-time":
        split_by_session_time(log, protocol.cuts)
    elif split == "leave-last-out":
        split_last_out(log)
    else:
        split_at_random(log, protocol)
    if not any(event.split == "train" for event in log.rows):
        return None

    known = {e.item for e in log.rows if e.split == "train" or protocol.index == "all"}
    everything = {e.item for e in log.rows}
    log.items = sorted(known) + sorted(everything - known)
    log.n_items = len(known)
    log.rewards = [reward(event, protocol.rewards, positive) for event in log.rows]
    log.in_state = [
        e.item in known and (protocol.in_state == "all" or e.behaviour in positive)
        for e in log.rows
    ]
    log.terminated = [ended(log, session, ends, protocol.gap or 30) for session in log.sessions]
    return log


def renamed(events, protocol):
    """Only the behaviours that were asked for, under the names that were asked for."""
    if protocol.behaviours:
        names = {}
        for entry in protocol.behaviours:
            old, _, new = entry.partition("=")
            names[old] = new or old
        events = [replace(e, behaviour=names[e.behaviour]) for e in events if e.behaviour in names]
    if protocol.min_rating is not None:
        events = [e for e in events if float(e.behaviour) >= protocol.min_rating]
    return events


def cut_by_gap(events, gap):
    """A pause of more than `gap` minutes begins the next visit of a user."""
    cut = []
    for user in {e.user for e in events}:
        visit, before = 0, None
        for event in sorted((e for e in events if e.user == user), key=lambda e: e.time):
            if before is not None and event.time - before > gap * MINUTE:
                visit += 1
            before = event.time
            cut.append(replace(event, visit=visit))
    return cut


def filtered(events, protocol, positive):
    """The events that stay, and the sessions that were drawn, in the order of their ids."""

    def counts(event):
        if protocol.counted == "positive":
            return event.behaviour in positive
        return protocol.counted in ("all", event.behaviour)

    def enough(events, key, least):
        counted = Counter(key(e) for e in events if counts(e))
        return [e for e in events if counted[key(e)] >= least]

    def by_session(event):
        return event.session

    def by_item(event):
        return event.item

    if not protocol.repeat_filters:
        events = enough(events, by_session, protocol.min_session)
        events, drawn = sampled(events, protocol)
        return enough(events, by_item, protocol.min_item), drawn
    while True:
        kept = enough(events, by_session, protocol.min_session)
        kept = enough(kept, by_item, protocol.min_item)
        if len(kept) == len(events):
            return sampled(kept, protocol)
        events = kept


def sampled(events, protocol):
    """The sessions with the smallest hashes."""
    sessions = sorted({e.session for e in events})
    if protocol.sample is not None:
        lots = sorted((tie_hash(k, 0, protocol.seed), k) for k in range(len(sessions)))
        sessions = sorted(sessions[k] for _, k in lots[: protocol.sample])
    return [e for e in events if e.session in sessions], sessions


def tie_hash(first, second, seed):
    """A fifth power of a seeded sum, modulo a prime."""
    total = (first + 1) * 1_103_515_245 + (second + 1) * 1_140_671_485 + seed * 1_597_334_677
    return pow(total, 5, PRIME)


def ordered(events, drawn, protocol):
    """Sessions by id; rows by time; equal times by the hash of session and item, or by the file."""
    items = sorted({e.item for e in events})

    def place(event):
        if protocol.ties == "row":
            return (event.time, event.rank, event.row)
        session, item = drawn.index(event.session), items.index(event.item)
        rest = (event.rank, event.value, event.propensity, event.slot)
        return (event.time, tie_hash(session, item, protocol.seed), item, *rest)

    there = sorted({e.session for e in events})
    return [sorted((e for e in events if e.session == s), key=place) for s in there]


def at_share(values, share):
    """The smallest value that is above this share of all."""
    return sorted(values)[min(int(share * len(values) + 1e-9), len(values) - 1)]


def split_by_event_time(log, shares):
    log.cuts = [at_share([e.time for e in log.rows], share) for share in shares]
    log.sessions = [
        [replace(e, split=SPLITS[sum(e.time >= cut for cut in log.cuts)]) for e in session]
        for session in log.sessions
    ]


def split_by_session_time(log, shares):
    log.cuts = [at_share([s[-1].time for s in log.sessions], share) for share in shares]
    for k, session in enumerate(log.sessions):
        past = sum(session[-1].time >= cut for cut in log.cuts)
        begins = log.cuts[past - 1] if past else None
        log.sessions[k] = [
            replace(e, split="context" if past and e.time < begins else SPLITS[past])
            for e in session
        ]


def split_last_out(log):
    for k, session in enumerate(log.sessions):
        splits = ["train"] * len(session)
        if len(session) >= 3:
            splits[-2:] = ["validation", "test"]
        log.sessions[k] = [replace(e, split=s) for e, s in zip(session, splits, strict=True)]


def split_at_random(log, protocol):
    count = len(log.sessions)
    lots = sorted((tie_hash(k, 0, protocol.seed), k) for k in range(count))
    cuts = [int(share * count + 1e-9) for share in protocol.cuts]
    for place, (_, k) in enumerate(lots):
        split = SPLITS[sum(place >= cut for cut in cuts)]
        log.sessions[k] = [replace(e, split=split) for e in log.sessions[k]]


def reward(event, scheme, positive):
    if scheme == "value":
        return event.value
    if scheme == "binary":
        return float(event.behaviour in positive)
    if scheme == "one":
        return 1.0
    if scheme == "levels":
        level = float(event.behaviour)
        return 1.0 if level >= 4.5 else 0.5 if level >= 4 else 0.0
    click, purchase = {"click0.2-purchase1": (0.2, 1.0), "click1-purchase5": (1.0, 5.0)}[scheme]
    return {"skip": 0.0, "click": click, "cart": click, "purchase": purchase}[event.behaviour]


def ended(log, session, ends, gap):
    """Does the source show, to whom sees only this split, that the session is over?"""
    last = session[-1]
    if ends in ("never", "always"):
        return ends == "always"
    if last.behaviour == "purchase":
        return True
    if ends == "purchase":
        return False
    horizon = max(e.time for e in log.rows)
    if log.cuts and last.split == "train":
        horizon = log.cuts[0]
    elif log.cuts and last.split == "validation":
        horizon = log.cuts[1]
    return last.time + gap * MINUTE < horizon
