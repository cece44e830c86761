"""Recognises the language of a question or a sentence by its script and its function words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from stop_words import get_stop_words

# The ISO 639 code for a language that cannot be determined.
UNDETERMINED = "und"

# Names in `stop_words`, letters that show the language among those with Latin script, and words that are frequent in
# questions and missing from its lists.
_LATIN = {
    "en": ("english", "", "tell is may must get"),
    "de": (
        "german",
        "äöüß",
        "darf dürfen bekomme bekommt kostet gilt brauche braucht gibt wann wieviel innerhalb",
    ),
    "fr": ("french", "àâçèéêëîïôùûœ", "combien quand où comment pourquoi puis peut doit faut coûte"),
    "es": ("spanish", "áéíóúñ", "cuántos cuántas cuánto cuánta cuándo dónde cómo puedo puede debo debe cuesta"),
    "it": ("italian", "àèéìòù", "quanti quante quanto quanta quando dove come posso può devo deve costa"),
    "pt": ("portuguese", "ãõáâàçêéíóôú", "quantos quantas quanto quanta quando onde posso pode devo deve custa"),
    "nl": ("dutch", "ëï", "hoeveel wanneer waar waarom mag kost krijg krijgt"),
    "pl": ("polish", "ąćęłńóśźż", "ile kiedy gdzie jak dlaczego czy mogę można muszę kosztuje"),
    "sv": ("swedish", "åäö", "hur många mycket när får måste kostar"),
    "da": ("danish", "æøå", "hvor mange meget hvornår hvordan hvorfor får koster"),
    "no": ("norwegian", "æøå", "hvor mange mye når hvordan hvorfor får koster"),
    "fi": ("finnish", "äö", "kuinka monta paljonko milloin missä miten miksi voinko saanko"),
    "hu": ("hungarian", "áéíóöőúüű", "hány mennyi mikor hol hogyan miért kell lehet"),
    "ro": ("romanian", "ăâîșşțţ", "câte câți cât când unde cum pot poate trebuie costă"),
    "cs": ("czech", "áčďéěíňóřšťúůýž", "kolik kdy kde jak proč mohu můžu musím stojí"),
    "tr": ("turkish", "çğıöşü", "kaç ne nasıl nerede zaman neden mi mı"),
}
# In the order in which they are tried, since Japanese contains Chinese characters, and Ukrainian Cyrillic ones.
_SCRIPTS = {
    "ja": r"[\u3040-\u30ff]",
    "ko": r"[\uac00-\ud7af\u1100-\u11ff]",
    "zh": r"[\u3400-\u4dbf\u4e00-\u9fff]",
    "fa": "[\u067e\u0686\u0698\u06af\u06a9\u06cc]",
    "ar": r"[\u0600-\u06ff\u0750-\u077f]",
    "uk": "[\u0456\u0457\u0454\u0491]",
    "ru": r"[\u0400-\u04ff]",
    "el": r"[\u0370-\u03ff\u1f00-\u1fff]",
    "he": r"[\u0590-\u05ff]",
    "hi": r"[\u0900-\u097f]",
}
_BY_SCRIPT = {code: re.compile(pattern) for code, pattern in _SCRIPTS.items()}
_LATIN_LETTER = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")
_SPANISH_MARK = re.compile("[\u00bf\u00a1]")
_WORD_WEIGHT = 2
_LETTER_WEIGHT = 1
# One word alone shows nothing: it can be a name, or a word of another language.
_ENOUGH = 3
_MAX_CHARS = 2000


@lru_cache(maxsize=4096)
def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language, by the script of most of its letters.

    None if the text does not show it, like a code or a single noun; UNDETERMINED if the script is none of those above.
    """
    words = _WORD.findall(text[:_MAX_CHARS].lower())
    letters = "".join(words)
    if len(_LATIN_LETTER.findall(letters)) * 2 < len(letters):
        return next((code for code, script in _BY_SCRIPT.items() if script.search(letters)), UNDETERMINED)
    return "es" if _SPANISH_MARK.search(text) else _detect_latin(words)


def _detect_latin(words: list[str]) -> str | None:
    scores = {code: sum(language.weigh(word) for word in words) for code, language in _latin_languages().items()}
    best = max(scores.values())
    found = [code for code, score in scores.items() if score == best]
    return found[0] if best >= _ENOUGH and len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class _LatinLanguage:
    """The function words of a language, and the letters that few others have."""

    words: frozenset[str]
    letters: frozenset[str]

    def weigh(self, word: str) -> int:
        """Return how clearly a word shows the language."""
        if word in self.words:
            return _WORD_WEIGHT
        return 0 if self.letters.isdisjoint(word) else _LETTER_WEIGHT


@cache
def _latin_languages() -> dict[str, _LatinLanguage]:
    return {
        code: _LatinLanguage(frozenset(get_stop_words(name)) | frozenset(more.split()), frozenset(letters))
        for code, (name, letters, more) in _LATIN.items()
    }
