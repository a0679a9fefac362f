"""The terms that a text is searched by: Lucene's English analysis, as pyserini uses it.

Words as Lucene's standard tokenizer cuts them (Unicode's word boundaries, and emoji), in lower
case, without 's, without 33 stop words, stemmed by Porter's program. Two things are left out: the
quotation mark within Hebrew words, and key caps of # and *.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from recgym.errors import MissingExtra

_STOP = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
_LONGEST = 255  # characters of a word: the next one begins after them
_MANY = 1_000_000  # words whose terms are remembered
_STOPPED = frozenset(_STOP.split())
_OWNERS = ("'s", "’s", "＇s")


def analysed(text: str) -> list[str]:
    """The terms of a text, in its order, each as often as it comes."""
    text, terms = text.lower(), _remembered()
    spans = map(re.Match.span, _WORD.finditer(text.translate(_KINDS)))
    words = [text[start:end] for start, end in spans]
    if len(text) > _LONGEST and max(map(len, words), default=0) > _LONGEST:
        words = [word[at : at + _LONGEST] for word in words for at in range(0, len(word), _LONGEST)]
    return [term for word in words if (term := terms[word])]


class _Terms(dict[str, str]):
    """From a word to its term, empty for a stop word: found out when it first comes."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        super().__init__()
        self._stem = stem

    def __missing__(self, word: str) -> str:
        if len(self) >= _MANY:
            self.clear()
        owner = word[:-2] if word.endswith(_OWNERS) else word
        term = self[word] = "" if owner in _STOPPED else _stemmed(owner, self._stem)
        return term


@cache
def _remembered() -> _Terms:
    try:
        import Stemmer
    except ImportError:
        raise MissingExtra("The shop", "shop") from None
    return _Terms(Stemmer.Stemmer("porter", 0).stemWord)


def _stemmed(word: str, stem: Callable[[str], str]) -> str:
    """Porter's stem. His program, which Lucene runs, departs from his paper in four places."""
    if len(word) <= 2:
        return word
    stemmed = stem(word)
    if stemmed[-1] == "i" and word.endswith(_PLURALS_OF_Y):
        if stemmed.endswith("logi") and _MEASURED.search(stemmed[:-4]):
            return stemmed[:-1]
        if stemmed.endswith("bli") and _MEASURED.search(stemmed[:-3]):
            return stem(f"{stemmed[:-1]}e")
    elif stemmed[-2:] in _DOUBLED and word.endswith(_CUT):
        return stemmed[:-1]
    return stemmed


_PLURALS_OF_Y = ("y", "ys", "i", "is", "ies", "ied")
_DOUBLED = frozenset(consonant * 2 for consonant in "chjkqvwx")  # as in "trekking"
_CUT = ("ed", "eds", "ing", "ings")
# A vowel before a consonant; y is a vowel after a consonant.
_MEASURED = re.compile("(?:[aeiou]|(?<=[^aeiou])y)(?:[^aeiouy]|(?<=[aeiou])y)")


# ---------------------------------------------------------------------- where words begin and end

# A text is cut by the kinds of its characters: L letter, N digit, K katakana, _ joins these; ":"
# joins letters, "," digits, "." either; x belongs to the one before it, z too, and joins emoji; H
# is a word by itself, S part of one where no spaces are written, E an emoji, M its skin, R half a
# flag. Nothing is possessive (`*+`): Python before 3.11.5 matches such groups wrongly (gh-106052).
_WORD = re.compile(
    "(?:_[_xz]*)?[LN][LN_xz]*"
    "(?:(?:(?<=[Lxz])[:.][xz]*(?=L)|(?<=[Nxz])[,.][xz]*(?=N))[LN_xz]*)*"
    "|(?:_[_xz]*)?K[K_xz]*|S[Sxz]*|H[xz]*|E(?:[xzM]|(?<=z)E)*|M[xz]*|R[xz]*R[xz]*"
)
_KIND_OF = {
    character: kind
    for kind, characters in {
        ".": ".'‘’․﹒＇．",
        ":": ":··՟״‧︓﹕：",
        ",": ",;;։،؍٬߸⁄︐︔﹐﹔，；",
        "_": "\u202f",
        "x": "\u200cﾞﾟ",
        "z": "\u200d",
        " ": "\u200b",
        "K": "゛゜゠・ー",
        "H": "々〇〻",
    }.items()
    for character in characters
}
_RANGES = (
    ("🇦", "🇿", "R"), ("🏻", "🏿", "M"), ("Ⓐ", "ⓩ", "L"), ("🄰", "🆉", "L"), ("⺀", "⿕", "H"),
)  # fmt: skip
_EMOJI = re.compile(  # Unicode 11's Extended_Pictographic, without letters
    "[©®‼⁉™↔-↙↩↪⌚⌛⌨⎈⏏⏩-⏳⏸-⏺▪▫▶◀◻-◾☀-★☇-☒☔-⚅⚐-✅✈-✒✔✖✝✡✨✳✴❄❇❌❎❓-❕❗❣-❧➕-➗➡➰➿⤴⤵⬅-⬇⬛⬜⭐⭕〰〽㊗㊙"
    "\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f16f\U0001f18e"
    "\U0001f191-\U0001f19a\U0001f1ad-\U0001f1e5\U0001f201-\U0001f20f\U0001f21a\U0001f22f"
    "\U0001f232-\U0001f23a\U0001f23c-\U0001f23f\U0001f249-\U0001f3fa\U0001f400-\U0001f53d"
    "\U0001f546-\U0001f64f\U0001f680-\U0001f6ff\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff"
    "\U0001f80c-\U0001f80f\U0001f848-\U0001f84f\U0001f85a-\U0001f85f\U0001f888-\U0001f88f"
    "\U0001f8ae-\U0001f8ff\U0001f90c-\U0001f93a\U0001f93c-\U0001f945\U0001f947-\U0001fffd]"
)
_KINDS_BY_NAME = (("CJK", "H"), ("HIRAGANA", "H"), ("KATAKANA", "K"), ("HALFWIDTH KATAKANA", "K"))
_WITHOUT_SPACES = re.compile("[฀-\u0eff\u1000-႟ក-\u17ff\u1950-᧟\u1a20-᪯ꧠ-꧿ꩠ-\uaadf]")


class _Kinds(dict[int, str]):
    """The kind of each character: found out when it first comes."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(chr(code))
        return kind


_KINDS = _Kinds()


def _kind(character: str) -> str:
    """One of the letters above, or a space where no word can be."""
    if kind := _KIND_OF.get(character):
        return kind
    if _EMOJI.match(character):
        return "E"
    for first, last, kind in _RANGES:
        if first <= character <= last:
            return kind
    category = unicodedata.category(character)
    if category == "Nd":
        return "N"
    if category[0] in "LM" and _WITHOUT_SPACES.match(character):
        return "S"
    if category[0] == "L" or category == "Nl":
        name = unicodedata.name(character, "")
        return next((kind for begins, kind in _KINDS_BY_NAME if name.startswith(begins)), "L")
    if category[0] == "M" or category == "Cf":
        return "x"
    return "_" if category == "Pc" else " "
