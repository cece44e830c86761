"""The sentence with which an answer says that the documents do not contain what was asked."""

from __future__ import annotations

import re

from ragsvc.languages import detect_language

NO_ANSWER_TEXT = "The documents do not contain an answer to this question."
NO_ANSWER_TEXTS = {
    "en": NO_ANSWER_TEXT,
    "de": "Die Dokumente enthalten keine Antwort auf diese Frage.",
    "fr": "Les documents ne contiennent pas de réponse à cette question.",
    "es": "Los documentos no contienen una respuesta a esta pregunta.",
    "it": "I documenti non contengono una risposta a questa domanda.",
    "pt": "Os documentos não contêm uma resposta a esta pergunta.",
    "nl": "De documenten bevatten geen antwoord op deze vraag.",
    "pl": "Dokumenty nie zawierają odpowiedzi na to pytanie.",
    "sv": "Dokumenten innehåller inget svar på den här frågan.",
    "da": "Dokumenterne indeholder ikke noget svar på dette spørgsmål.",
    "no": "Dokumentene inneholder ikke noe svar på dette spørsmålet.",
    "fi": "Asiakirjat eivät sisällä vastausta tähän kysymykseen.",
    "hu": "A dokumentumok nem tartalmaznak választ erre a kérdésre.",
    "ro": "Documentele nu conțin un răspuns la această întrebare.",
    "cs": "Dokumenty neobsahují odpověď na tuto otázku.",
    "tr": "Belgeler bu sorunun yanıtını içermiyor.",
    "ja": "文書には、この質問に対する回答が含まれていません。",
    "ko": "문서에 이 질문에 대한 답변이 없습니다.",
    "zh": "文档中没有这个问题的答案。",
    "ar": "لا تحتوي الوثائق على إجابة عن هذا السؤال.",
    "fa": "اسناد پاسخی برای این پرسش ندارند.",
    "ru": "В документах нет ответа на этот вопрос.",
    "uk": "У документах немає відповіді на це запитання.",
    "el": "Τα έγγραφα δεν περιέχουν απάντηση σε αυτή την ερώτηση.",
    "he": "המסמכים אינם מכילים תשובה לשאלה זו.",
    "hi": "दस्तावेज़ों में इस प्रश्न का उत्तर नहीं है।",
}

_INSTRUCTION = "If the sources do not contain the answer, reply with this text alone and cite nothing: "
_READ_INSTRUCTION = re.compile(rf"^{re.escape(_INSTRUCTION)}(.+)$", re.MULTILINE)
_NOT_WORD = re.compile(r"[\W_]+")


def choose_no_answer_text(question: str) -> str:
    """Return the abstention in the question's language; in English if that is not known."""
    return NO_ANSWER_TEXTS.get(detect_language(question) or "en", NO_ANSWER_TEXT)


def write_instruction(no_answer_text: str) -> str:
    """Return the line of a prompt that says how to abstain."""
    return f"{_INSTRUCTION}{' '.join(no_answer_text.split())}"


def read_instruction(prompt: str) -> str | None:
    """Return the text that a prompt's `write_instruction` asks for; None if it has none."""
    found = _READ_INSTRUCTION.search(prompt)
    return found[1] if found else None


def is_no_answer(answer: str, no_answer_text: str) -> bool:
    """Return whether an answer begins with the abstention asked for, or with that of any language.

    Models change its punctuation, translate it as the question's language asks, and add advice after it.
    """
    given = _letters(answer)
    known = (_letters(text) for text in (no_answer_text, *NO_ANSWER_TEXTS.values()))
    return answer.strip() == no_answer_text.strip() or any(text and given.startswith(text) for text in known)


def _letters(text: str) -> str:
    return _NOT_WORD.sub("", text.casefold())
