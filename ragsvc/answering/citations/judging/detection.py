"""Finds the language of a sentence among those that are calibrated."""

from __future__ import annotations

import re
from functools import lru_cache

from ragsvc.answering.citations.judging.languages.arabic import ARABIC
from ragsvc.answering.citations.judging.languages.english import ENGLISH
from ragsvc.answering.citations.judging.languages.french import FRENCH
from ragsvc.answering.citations.judging.languages.german import GERMAN
from ragsvc.answering.citations.judging.languages.japanese import JAPANESE
from ragsvc.answering.citations.judging.languages.language import Kind, Language
from ragsvc.answering.citations.judging.languages.spanish import SPANISH

LATIN = (ENGLISH, GERMAN, FRENCH, SPANISH)
CALIBRATED = (*LATIN, ARABIC, JAPANESE)
_KANA = re.compile(r"[぀-ヿ]")
_ARABIC = re.compile(r"[؀-ۿ]")
# Letters of Persian and Urdu.
_NOT_ARABIC = re.compile(r"[پچژگکیٹڈ]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_OTHER = re.compile(r"[Ͱ-Ͽ Ѐ-ӿ֐-׿ऀ-෿฀-๿一-鿿가-힯]".replace(" ", ""))
# Letters that none of the other Latin languages here uses often.
_LETTERS = {"en": "", "de": "äöüß", "fr": "èêçàùîœâ", "es": "ñóíúá¿¡"}
_WORD = re.compile(r"[^\W\d_]+")
# Words that show a language, not words such as `no` that several languages share for other reasons.
_TELLING = frozenset({Kind.FUNCTION, Kind.PREPOSITION, Kind.PRONOUN, Kind.COORDINATOR, Kind.NEGATION, Kind.MARKER})


@lru_cache(maxsize=4096)
def detect_languages(text: str) -> tuple[Language, ...]:
    """Return the calibrated languages that a text can be in: usually one, several for a text with few telling words."""
    if _KANA.search(text):
        return (JAPANESE,)
    if _ARABIC.search(text):
        return () if _NOT_ARABIC.search(text) else (ARABIC,)
    if _OTHER.search(text) or not _LATIN.search(text):
        return ()
    words = [word.lower() for word in _WORD.findall(text)]
    counts = [
        sum(language.kinds.get(word, (Kind.CONTENT,))[0] in _TELLING for word in words)
        + sum(letter in text for letter in _LETTERS[language.code])
        for language in LATIN
    ]
    return tuple(language for language, count in zip(LATIN, counts, strict=True) if count == max(counts))
