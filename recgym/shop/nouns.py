"""The nouns of a product's name: by spaCy where it is installed, else by a small rule of ours.

WebShop compares names by the words that spaCy's en_core_web_sm takes for nouns. The rule needs no
model and is the same everywhere; how often both agree has not been measured. Scores by one are not
comparable to scores by the other, so the name of what was used is recorded with each.
"""

import importlib
import re
from typing import Any, Protocol

from recgym.errors import InvalidArgument, printable

MODEL = "en_core_web_sm"
RULE = "rule-1"  # a rule that finds other nouns is another one: rule-2


class Nouns(Protocol):
    """What finds nouns, and what it is called."""

    name: str

    def __call__(self, text: str) -> list[str]:
        """The nouns and names of a text in lower case, each as often as it is there."""
        ...


def nouns_named(which: str = "auto") -> Nouns:
    """`spacy`, `rule-1`, or `auto`: spaCy where it is installed with its model."""
    if which == RULE:
        return RuleNouns()
    if which not in ("auto", "spacy"):
        raise InvalidArgument(
            f"Nouns are found by auto, spacy or {RULE}, and '{printable(which)}' was given."
        )
    model = _model()
    if model is not None:
        return SpacyNouns(model)
    if which == "auto":
        return RuleNouns()
    raise InvalidArgument(
        f"spaCy and its model {MODEL} are not installed: pip install spacy, then python -m spacy "
        f"download {MODEL}; or take {RULE}."
    )


class SpacyNouns:
    """The tokens that a model of spaCy tags as nouns or proper nouns, as WebShop takes them."""

    def __init__(self, model: Any) -> None:
        """Take a loaded model; its version is part of the name."""
        self.name = f"spacy {MODEL} {model.meta['version']}"
        self._model = model

    def __call__(self, text: str) -> list[str]:
        return [token.text.lower() for token in self._model(text) if token.pos_ in _TAGS]


_TAGS = ("NOUN", "PROPN")
_UNTAGGED = ("parser", "ner", "lemmatizer")  # parts of the model that no tag depends on


def _model() -> Any:
    """The model, or None where it or spaCy is missing or does not load."""
    try:
        return importlib.import_module("spacy").load(MODEL, exclude=_UNTAGGED)
    except (ImportError, OSError, ValueError):  # no spaCy; no model; one of another spaCy
        return None


class RuleNouns:
    """All words but those known not to be nouns: names of products are mostly nouns.

    Left out are numbers and units, single letters, the closed classes, adjectives and participles
    that products are often praised by, and words that end like an adjective, adverb or participle.
    """

    name = RULE

    def __call__(self, text: str) -> list[str]:
        words = (_ENDING.sub("", word) for word in _WORD.findall(text.lower()))
        return [word for word in words if _is_noun(word)]


_WORD = re.compile(r"\w+(?:['’]\w+)*")
_ENDING = re.compile("['’]s$")  # of a possessive


def _is_noun(word: str) -> bool:
    if len(word) < 2 or not word[0].isalpha() or word in _KNOWN_OTHERS:
        return False
    return word in _KNOWN_NOUNS or not _OTHER_ENDS.search(word)


# An adverb (easily), an adjective (washable, famous, colorful, wireless, waterproof), a participle
# (printed, not speed).
_OTHER_ENDS = re.compile(
    r"...ly$|...[ai]ble$|..ous$|...ful$|...less$|..proof$|...[^e]ed$|....resistant$"
)

# For all that they end like the others.
_NOUNS = """
    airbed assembly belly butterfly cotbed crucible daybed dolly dragonfly family firefly
    flatbed handful infrared jelly sunbed supply timetable turntable vegetable waterbed
    worktable
"""
# Determiners, pronouns, prepositions, conjunctions, auxiliaries, adverbs, numerals.
_CLOSED = """
    an the this that these those each every any some all both either neither no none not another
    other others such own same it its we us our ours you your yours he him his she her hers they
    them their theirs me my mine myself yourself itself who whom whose which what of for with
    without in into on onto at by to from up down out off over under above below between among
    through during before after against about across along around behind beside besides beyond
    near per via within inside outside toward towards until till upon than as like and or but
    nor so yet if because while when where whether though although unless since is are was were
    be been being do does did done have has had having will would can could should shall may
    might must let lets get gets got don't won't can't very too also just only even more most
    less least much many few several enough again always never ever often still already now then
    here there how why well almost quite rather away forward ahead together apart instead please
    etc plus vs versus ie eg de la le one two three four five six seven eight nine ten eleven
    twelve twenty thirty forty fifty sixty hundred thousand million dozen first second third
    fourth fifth half once twice
"""
# Units, and what counts.
_UNITS = """
    oz ounce ounces fl ml cl liter liters litre litres gallon gallons quart pint mm cm meter
    meters metre metres inch inches ft foot feet yd yard yards lb lbs pound pounds kg gram grams
    mg gb mb tb mah mhz ghz hz watt watts volt volts pc pcs ct qty count pk th nd rd
"""
# Adjectives that praise or tell apart.
_PRAISE = """
    new old big small large medium mini long short tall high low wide narrow thick thin slim
    deep full empty heavy light lightweight soft hard strong firm smooth warm cool cold hot dry
    wet fresh clean clear dark bright pure natural organic vegan healthy sweet sour spicy
    delicious tasty cute pretty beautiful lovely sexy elegant stylish chic trendy casual formal
    classic modern retro rustic antique contemporary traditional vintage industrial decorative
    ornamental creative unique perfect great good better best nice super extra ultra premium
    original genuine real fake faux artificial authentic professional personal universal digital
    electric electronic automatic manual smart magnetic elastic plush cozy comfy loose tight
    stretchy breathable funny happy easy quick fast slow instant safe sturdy rugged durable
    portable compact foldable inflatable reusable disposable adjustable refillable removable
    detachable compatible suitable available single double triple dual multi various different
    assorted round square oval flat straight curved curly open whole entire main basic simple
    plain solid sheer hollow sharp sensitive external internal indoor outdoor front rear upper
    lower left right inner outer black white red blue green yellow orange purple pink brown grey
    gray beige colorful male female unisex adult italian french german american japanese chinese
    african indian wooden metallic ceramic floral facial dental oral herbal thermal virtual
    mobile cordless free semi non anti pre post ex
"""
# Verbs and participles that names are full of.
_VERBS = """
    made make makes use uses used using restores improves removes helps keeps gives adds
    includes including included contains based looking lasting exfoliating moisturizing
    moisturising hydrating nourishing soothing refreshing brightening whitening firming slimming
    charging folding hanging standing mounting carrying wearing resisting stretching adjusting
    featuring featured fits buy enjoy built cut worn woven hidden frozen broken
"""

_KNOWN_NOUNS = frozenset(_NOUNS.split())
_KNOWN_OTHERS = frozenset((_CLOSED + _UNITS + _PRAISE + _VERBS).split())
