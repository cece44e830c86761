"""Reads a sentence as tokens: content words by their stems, numbers, and the words that change what it states."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.answering.citations.judging.languages.language import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.answering.citations.judging.languages.language import Language

_TOKEN = re.compile(r"\d+(?:[.,:٫٬\u202f\u00a0]\d+)*|[%€$£¥°]|[?？؟]|[,;:()–—،؛、。\n]|[^\W\d_]+(?:[-'’][^\W\d_]+)*")  # noqa: RUF001 - typographic signs are intended
_BOUNDARIES = frozenset(",;:()–—،؛、。\n")  # noqa: RUF001
_ELISION = re.compile(r"^(?:[ldnmtscj]|qu|jusqu|lorsqu|puisqu)['’](?=\w)")  # noqa: RUF001
_VOWEL_SIGNS = re.compile(r"[\u064b-\u0652\u0640\u0670]")
_ARABIC_FORMS = str.maketrans("أإآٱىة", "ااااي\u0647")
_ARABIC_PREFIX = re.compile(r"^(?:بال|كال|فال|لل|ال)(?=\w{2})")
MIN_PREFIXED = 4
_CONTRACTED = {"can't": "can", "won't": "will", "shan't": "shall"}
_CURRENCIES = frozenset("€$£¥")
_KANJI_DIGITS = {char: value for value, char in enumerate("〇一二三四五六七八九")}
_KANJI_NUMBER = re.compile(r"[〇一二三四五六七八九十百千万]+(?=[人冊日月年時分円回歳名個階週本枚度点台部か%])")
_JAPANESE = re.compile(r"\d+(?:[.,:]\d+)*|[%€$£¥°]|[?？]|[、。（）「」\n]|[゠-ヿ]+|[A-Za-z]+|[一-鿿々]|[぀-ゟ]")  # noqa: RUF001
_PARTICLES = {"は": "subject", "が": "subject", "も": "subject", "を": "object", "に": "target", "へ": "target"}


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign; tokens with equal kind and key have the same meaning."""

    kind: Kind
    key: str
    text: str

    @property
    def is_content(self) -> bool:
        """Whether the token is a word with content or a number."""
        return self.kind in {Kind.CONTENT, Kind.NUMBER}


@lru_cache(maxsize=4096)
def read_tokens(text: str, language: Language) -> tuple[Token, ...]:
    """Return the tokens of a sentence."""
    if language.code == "ja":
        return tuple(_read_japanese(unicodedata.normalize("NFKC", text), language))
    words = list(_split(text, language))
    tokens: list[Token] = []
    index = 0
    while index < len(words):
        phrase = next(
            (one for one in language.phrases if tuple(words[index : index + len(one)]) == one), (words[index],)
        )
        tokens.extend(_classify(" ".join(phrase), language))
        index += len(phrase)
    return tuple(_amounts_first(tokens))


def _amounts_first(tokens: list[Token]) -> Iterator[Token]:
    """Put a currency sign behind its amount, where words for currencies stand."""
    index = 0
    while index < len(tokens):
        pair = tokens[index : index + 2]
        if len(pair) > 1 and pair[0].text in _CURRENCIES and pair[1].kind is Kind.NUMBER:
            yield from reversed(pair)
            index += 2
        else:
            yield tokens[index]
            index += 1


def _split(text: str, language: Language) -> Iterator[str]:
    for found in _TOKEN.findall(text):
        word = found.lower().replace("’", "'")  # noqa: RUF001
        if language.code == "fr":
            while match := _ELISION.match(word):
                yield word[: match.end() - 1]
                word = word[match.end() :]
        elif language.code == "ar":
            word = _VOWEL_SIGNS.sub("", word).translate(_ARABIC_FORMS)
        elif language.code == "en":
            yield from _split_contraction(word.removesuffix("'s"))
            continue
        yield word


def _split_contraction(word: str) -> tuple[str, ...]:
    if word == "cannot":
        return ("can", "not")
    if not word.endswith("n't"):
        return (word,)
    return (_CONTRACTED.get(word, word.removesuffix("n't")), "n't")


def _classify(word: str, language: Language) -> Iterator[Token]:
    if word in _BOUNDARIES:
        yield Token(Kind.BOUNDARY, word, word)
    elif word[0].isdigit():
        yield Token(Kind.NUMBER, normalise_number(word), word)
    elif word in "?？؟":  # noqa: RUF001
        yield Token(Kind.HEDGE, "?", word)
    elif word in language.kinds:
        kind, key = language.kinds[word]
        yield Token(kind, key, word)
    elif language.code == "ar":
        yield from _classify_arabic(word, language)
    else:
        yield Token(Kind.CONTENT, language.stem(word), word)


def _classify_arabic(word: str, language: Language) -> Iterator[Token]:
    """Split off what Arabic writes together with the next word: `and`, and the article with its preposition."""
    if word.startswith("و") and len(word) >= MIN_PREFIXED:
        yield Token(Kind.COORDINATOR, "و", "و")
        word = word[1:]
        if word in language.kinds:
            kind, key = language.kinds[word]
            yield Token(kind, key, word)
            return
    bare = _ARABIC_PREFIX.sub("", word)
    if bare in language.kinds and language.kinds[bare][0] in {Kind.NUMBER, Kind.MARKER}:
        kind, key = language.kinds[bare]
        yield Token(kind, key, word)
        return
    yield Token(Kind.CONTENT, language.stem(bare), word)


def normalise_number(text: str) -> str:
    """Return a number in digits with a decimal point: separators before three digits group thousands."""
    digits = "".join(str(unicodedata.digit(char)) if char.isdigit() else char for char in text)
    digits = re.sub(r"[.,٬\u202f\u00a0](?=\d{3}(?!\d))", "", digits).replace(",", ".").replace("\u066b", ".")
    return digits.rstrip("0").rstrip(".") if digits.count(".") == 1 else digits


def _read_japanese(text: str, language: Language) -> Iterator[Token]:
    text = _KANJI_NUMBER.sub(lambda found: _read_kanji_number(found[0]), text)
    phrases = sorted(language.kinds, key=len, reverse=True)
    position = 0
    follows_content = False
    while position < len(text):
        phrase = next((one for one in phrases if text.startswith(one, position)), None)
        if phrase is not None:
            kind, key = language.kinds[phrase]
            yield Token(kind, key, phrase)
            position += len(phrase)
            follows_content = False
            continue
        match = _JAPANESE.match(text, position)
        if match is None:
            position += 1
            continue
        position = match.end()
        token = _classify_japanese(match[0], follows_content=follows_content)
        follows_content = token.is_content and token.key not in _PARTICLES.values()
        yield token


def _classify_japanese(text: str, *, follows_content: bool) -> Token:
    if text in "、。（）「」\n":  # noqa: RUF001
        return Token(Kind.BOUNDARY, text, text)
    if text[0].isdigit():
        return Token(Kind.NUMBER, normalise_number(text), text)
    if text in "?？":  # noqa: RUF001
        return Token(Kind.HEDGE, "?", text)
    if "぀" <= text <= "ゟ":
        if follows_content and text in _PARTICLES:
            return Token(Kind.CONTENT, _PARTICLES[text], text)
        return Token(Kind.FUNCTION, text, text)
    return Token(Kind.CONTENT, text.lower(), text)


def _read_kanji_number(text: str) -> str:
    total = section = digit = 0
    for char in text:
        if char in _KANJI_DIGITS:
            digit = digit * 10 + _KANJI_DIGITS[char]
        elif char == "万":
            total += (section + digit) * 10_000 or 10_000
            section = digit = 0
        else:
            section += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char]
            digit = 0
    return str(total + section + digit)
