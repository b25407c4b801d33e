"""Token patterns of the Penn Treebank tokenizer of coco-caption (Stanford CoreNLP 3.4.1), as regular expressions.

A rule is a pattern for a token, optionally followed by a context that is not part of it. At each position the rule whose token
and context are longest wins, the earlier one of equals. Letters of the patterns stand for both cases, character classes for
exactly their characters, unless said otherwise.

The word lists and character classes are not ours: they describe how the published tokenizer behaves, oddities included. They
are checked against its recorded answers (`tests/unit/evals/metrics/test_ptb.py`), and are complete only as far as these go. The
ends of sentences are not detected where the only effect is a period, which the metrics remove.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Spelling = Callable[[str], str]
"""Matched text -> the token."""


@dataclass(frozen=True)
class Rule:
    """A pattern with one group, the token; text after the group is context."""

    pattern: re.Pattern[str]
    spell: Spelling | None = None
    """None keeps the text."""


def _either_case(pattern: str) -> str:
    return f"(?i:{pattern})"


def _any_of(text: str) -> str:
    """Match one of the words of a text, the longest first."""
    return _either_case("|".join(map(re.escape, sorted(text.split(), key=len, reverse=True))))


# -- characters ---------------------------------------------------------------------------------------------------------

_NUMERALS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2080-\u2089\u2150-\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"
_MARKS = (
    "\u00ad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0375\u0384\u0385\u055a-\u055f\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0615-\u061a\u06d6-\u06ed\u0711\u0730-\u074a\u07a6-\u07b0"
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0670\u0900-\u0903\u093c\u093e-\u094e\u0981-\u0983\u0e31-\u0e3a\u0e47-\u0e4e"
)
_ACCENTED_ENTITY = "(?i:&[aeiou](?:acute|grave|uml);)"
LETTER = rf"(?:(?![{_NUMERALS}])[^\W\d_]|[{_MARKS}]|{_ACCENTED_ENTITY})"
_ALNUM = rf"(?:(?![{_NUMERALS}])[^\W_])"
SPACE = " \t\u00a0\u2000-\u200a\u3000"
_BREAK = rf"[{SPACE}\r\n]"
_APOSTROPHE = r"(?:['\u0092\u2019]|&apos;)"
_ANY_APOSTROPHE = r"(?:['\u0092\u2019`\u0091\u2018\u201b]|&apos;)"
_HYPHEN = "[-_\u058a\u2010\u2011]"
_PAUSE = "[,;:\u3001]"
_WORD = rf"(?:{LETTER}(?:{LETTER}|\d)*(?:[.!?]{LETTER}(?:{LETTER}|\d)*)*)"
_ENDING = rf"{_APOSTROPHE}(?i:[msd]|re|ve|ll)"
_NOT = rf"(?i:n){_ANY_APOSTROPHE}(?i:t)"

# -- spelling of tokens -------------------------------------------------------------------------------------------------

_LEFT, _RIGHT = {"'": "`", '"': "``"}, {"'": "'", '"': "''"}
_CURLY = {**dict.fromkeys("\u0091\u2018\u201b\u2039", "`"), **dict.fromkeys("\u0092\u2019\u203a", "'")} | {
    **dict.fromkeys("\u0093\u201c\u00ab", "``"),
    **dict.fromkeys("\u0094\u201d\u00bb", "''"),
}
_ROUND_BRACKETS = {"(": "-LRB-", ")": "-RRB-"}
_BRACKETS = _ROUND_BRACKETS | {"[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\u00a2": "cents", "\u00a3": "#"} | dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$")
_ENTITIES = {"&apos;": "'", "&quot;": '"', "&lt;": "<", "&gt;": ">", "&amp;": "&"}


def _each(table: dict[str, str]) -> Spelling:
    return lambda text: "".join(table.get(character, character) for character in text)


def _plain(text: str) -> str:
    for entity, character in _ENTITIES.items():
        if "&" in text:
            text = re.sub(entity, character, text, flags=re.IGNORECASE)
    return text


def _opening(text: str) -> str:
    return _each(_LEFT | _CURLY)(_plain(text))


def _closing(text: str) -> str:
    return _each(_RIGHT | _CURLY)(_plain(text))


def _always(token: str) -> Spelling:
    return lambda _: token


def _without_soft_hyphens(text: str) -> str:
    return text.replace("\u00ad", "") or "-"


def _one_word(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _bracketed(text: str) -> str:
    return _each(_BRACKETS)(_one_word(text))


def _dashes(text: str) -> str:
    return "--" if len(text) in (3, 4) else text


# -- abbreviations ------------------------------------------------------------------------------------------------------

# Words that keep their period. Those of the second table do so with a capital only, those of the third before a number.
_CLOSE = """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn ct dak fla
    ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wyo inc co cos corp pty ptys ppty
    pptys pte ptes ltd plc bancorp bhd assn univ intl sys rt tel est ext sq jr sr bros esq etc al seq bldg blvd rd ed.d
    ph.d
"""
_TITLES = """
    mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt st
    ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft adj adv asst assoc ens insp mlle mme msgr sfc vs
    alex wm jos cie cf treas ph invt elec natl mfg mtg dept a.k.a
"""
_CAPITALISED = "Az Ark Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_NUMBERS = "ca fig figs prop no nos art pp op"
_ACRONYM = r"(?:(?i:canada|sino|korean|eu|japan|non)-(?i:u\.s)|(?i:u\.s\.-(?:u\.k|u\.s\.s\.r))|[A-Za-z](?:\.[A-Za-z])+)"
_TITLE = rf"(?:{_ACRONYM}|[A-Za-z]|{_any_of(_TITLES)})\."
_CLOSE_WORD = rf"(?:{_any_of(_CLOSE)}|" + "|".join(f"{word[0]}(?i:{word[1:]})" for word in _CAPITALISED.split()) + r")\."
# After these, a single letter with a period ends a sentence.
_STARTERS = (
    "About According Additionally After An A As At But Did During Earlier He Her Here How However If In It Last Many More Now "
    "Once One Other Our She Since So Some Such That The Their Then There These They This We When While What Who Why Yet You"
)
_STARTER = "|".join(f"{word[0]}{_either_case(word[1:])}" if word[1:] else word for word in _STARTERS.split())
KEEP_PERIOD = frozenset(f"{_CLOSE} {_TITLES} {_CAPITALISED} {_BEFORE_NUMBERS}".lower().split())
"""Words that may keep a period after them."""

# -- words --------------------------------------------------------------------------------------------------------------

_ASSIMILATED = (
    *(("can", "not"), ("'t", "was"), ("'t", "is"), ("gon", "na"), ("got", "ta")),
    *(("lem", "me"), ("gim", "me"), ("wan", "na")),
)
ASSIMILATED = {first + second: (first, second) for first, second in _ASSIMILATED}
"""Words that are two tokens."""
_FAMILIAR = "nor'easter c'mon e'er s'mores ev'ry li'l nat'l"
_APOSTROPHE_WORDS = "|".join(
    [
        rf"{_APOSTROPHE}(?i:n){_APOSTROPHE}",
        rf"{_APOSTROPHE}(?i:em|till?|cause|n)",
        rf"(?i:dunkin|somethin|ol){_APOSTROPHE}",
        rf"(?i:o){_ANY_APOSTROPHE}(?i:o)",
        rf"[A-HJ-XZn]{_ANY_APOSTROPHE}{LETTER}{{2,}}",
        rf"{LETTER}+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z]{LETTER}*",
        rf"{_APOSTROPHE}[2-9]0(?i:s)",
        r"(?i:cont'd)\.?",
        _any_of(_FAMILIAR),
        rf"[lLdDjJ]{_APOSTROPHE}",
    ]
)
_ELISION = rf"(?:[dDoOlL]{_ANY_APOSTROPHE}{_ALNUM})?"
_HYPHENATED = rf"{_ELISION}{_ALNUM}+(?:{_HYPHEN}{_ELISION}{_ALNUM}+)*"
_MIXED = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\u00ad]+))+"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
_JOINED_CAPITALS = r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+"
_URL_END = r"[^ \t\n\f\r\"<>|.!?(){},-]"
_FULL_URL = r"(?i:https?)://[^ \t\n\f\r\"<>|(){}]+" + _URL_END
_LIKELY_URL = (
    r"(?:(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"
    r"|(?:[^ \t\n\f\r\"`'<>|!?(){},-_$]+\.)+(?i:com|net|org|edu))(?:/[^ \t\n\f\r\"<>|()]+" + _URL_END + ")?"
)
_NO_ADDRESS = ' \t\n\f\r"<>|(){}\u00a0'
_EMAIL = f"(?:&lt;|<)?[a-zA-Z0-9][^{_NO_ADDRESS}]*@(?:[^.{_NO_ADDRESS}]+\\.)*[^.{_NO_ADDRESS}]+(?:&gt;|>)?"
_FILE_SUFFIXES = (
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql "
    "tar txt wav x xml zip"
)
_SPECIAL = rf"-(?i:[rl][rcs]b)-|(?i:pro|anti)-|(?i:cap){_APOSTROPHE}(?i:n)|(?i:c){_APOSTROPHE}(?i:est)"

# -- numbers ------------------------------------------------------------------------------------------------------------

_NUMBER = "[-+]?(?:\\d*(?:[.:,\u00ad\u066b\u066c]\\d+)+|\\d+)"
_DATE = r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"
_FRACTION = "(?:\\d{1,4}[- \u00a0])?\\d{1,4}(?:\\\\?/|\u2044)\\d{1,4}"
_PHONE = (
    "(?:\\([0-9]{2,3}\\)[ \u00a0]?|(?:\\+\\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])[0-9]{3,4}[- \u00a0]?[0-9]{3,5}"
    r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
_SCRIPT_NUMBER = "[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"

# -- signs --------------------------------------------------------------------------------------------------------------

_SINGLE_SIGNS = (
    "+%&~^|\\\\\u060c\u061b\u061e\u066a\u066d\u00a6\u00a7\u00a8\u00a9\u00ac\u00ae\u00af\u00b0-\u00ba\u00d7\u00f7\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b"
    "\u203e-\u2042\u2044\u207a-\u207f\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_STOPS = ".\u00a1\u00bf\u037e\u0589\u061f\u06d4\u3002"
_TAG = (
    r"<(?:[!?][A-Za-z-][^>\r\n]*|/[A-Za-z][A-Za-z0-9_:.-]*"
    r"|[A-Za-z][A-Za-z0-9_:.-]*(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^'\r\n]*'|\"[^\"\r\n]*\"))?)* */?) *>"
)
_SMILEY = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"
_FACE = r"[\^x=~<>]\.\[\^x=~<>]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"
_DOUBLE_QUOTE = '"|(?i:&quot;)'
_QUOTES = rf"''|[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{{1,2}}|{_APOSTROPHE}"


def _rule(token: str, context: str = "", spell: Spelling | None = None) -> Rule:
    return Rule(re.compile(f"({token})(?:{context})"), spell)


RULES: tuple[Rule, ...] = (
    _rule(r"(?i:c\+\+|[cf]#)"),
    *(_rule(_either_case(re.escape(first)), _either_case(second)) for first, second in _ASSIMILATED),
    _rule(_TAG, spell=_one_word),
    _rule(r"(?i:&(?:MD|mdash|ndash);)|[\u0096\u0097\u2013-\u2015]", spell=_always("--")),
    _rule(r"(?i:&amp;)", spell=_plain),
    _rule("(?i:&nbsp;)", spell=_always("")),
    _rule("&#[0-9]+;"),
    _rule(_WORD, _ENDING, _without_soft_hyphens),
    _rule("[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _NOT, _without_soft_hyphens),
    _rule(_WORD, spell=_without_soft_hyphens),
    _rule(_APOSTROPHE_WORDS),
    _rule(rf"[yY]{_APOSTROPHE}", LETTER),
    _rule(_FULL_URL),
    _rule(_LIKELY_URL),
    _rule(_EMAIL),
    _rule(rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{LETTER}+"),
    _rule(_ENDING, "[^A-Za-z]", _closing),
    _rule(_NOT, spell=_closing),
    _rule(_DATE),
    _rule(_NUMBER, spell=_without_soft_hyphens),
    _rule(_SCRIPT_NUMBER),
    _rule(_FRACTION, spell=_one_word),
    _rule("[\u00bc-\u00be\u2153-\u215e]", spell=_each(_FRACTIONS)),
    _rule(_SPECIAL, spell=_plain),
    _rule(_SLASHED),
    _rule(r"[A-Z]*\$|#"),
    _rule("[\u00a2-\u00a5\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]", spell=_each(_CURRENCIES)),
    _rule("[A-Za-z]", rf"\.{_BREAK}+(?:{_STARTER}|M[rs]\.|{_TAG})(?:{_BREAK}|[?!])"),
    _rule(rf"{_any_of(_BEFORE_NUMBERS)}\.", rf"{_BREAK}?\d"),
    _rule(_CLOSE_WORD, "(?s:..)"),
    _rule(_CLOSE_WORD),
    _rule(_TITLE),
    _rule(rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.{_any_of(_FILE_SUFFIXES)}", rf"{_BREAK}|[.?!,]"),
    _rule(_ACRONYM, _BREAK),
    _rule(rf"{_APOSTROPHE}[0-9][0-9]", _BREAK),
    _rule(rf"{_WORD}\.", _PAUSE, _without_soft_hyphens),
    _rule(_PHONE, spell=_bracketed),
    _rule(_DOUBLE_QUOTE, "[A-Za-z0-9$]", _opening),
    _rule(_DOUBLE_QUOTE, spell=_closing),
    _rule(r"[<>]|(?i:&[lg]t;)", spell=_plain),
    _rule(_SMILEY, "[^A-Za-z0-9]", _each(_ROUND_BRACKETS)),
    _rule(_FACE, spell=_each(_ROUND_BRACKETS)),
    _rule(r"[][(){}]", spell=_each(_BRACKETS)),
    _rule("-+", spell=_dashes),
    _rule("\\.{3,5}|(?:\\.[ \u00a0]){2,4}\\.|[\u0085\u2026]", spell=_always("...")),
    _rule(r"@+|#+|_+|\*+|(?:\\\*){1,3}"),
    _rule(_PAUSE),
    _rule("[?!]+"),
    _rule(f"[{_STOPS}]|=|/"),
    _rule(rf"{_MIXED}\.", _PAUSE, _without_soft_hyphens),
    _rule(_MIXED, spell=_without_soft_hyphens),
    _rule(rf"{_HYPHENATED}\.", _PAUSE),
    _rule(_HYPHENATED),
    _rule(rf"{_JOINED_CAPITALS}\.", _PAUSE, _plain),
    _rule(_JOINED_CAPITALS, spell=_plain),
    _rule("'", "[A-Za-z][^ \t\r\n\u00a0]", _opening),
    _rule(_ENDING, spell=_closing),
    _rule(_QUOTES, spell=_closing),
    _rule("<<|>>"),
    _rule(f"[{_SINGLE_SIGNS}]"),
)
