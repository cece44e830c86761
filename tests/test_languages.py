"""Tests of recognising the language of short texts."""

from __future__ import annotations

import pytest

from ragsvc.languages import UNDETERMINED, detect_language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "How many days of leave do I get?"),
        ("en", "Does the kettle have a café mode?"),
        ("en", "What is the name of the Müller office in 東京?"),
        ("de", "Darf ich innerhalb Deutschlands fliegen?"),
        ("de", "Winterreifen müssen von Oktober bis Ostern montiert sein."),
        ("fr", "Y a-t-il une salle de réunion ?"),
        ("es", "¿Dónde está el aparcamiento?"),
        ("it", "Quanti giorni di ferie ho?"),
        ("pt", "Onde fica o estacionamento?"),
        ("nl", "Hoeveel vakantiedagen heb ik?"),
        ("pl", "Ile mam dni urlopu?"),
        ("sv", "Hur många semesterdagar har jag?"),
        ("fi", "Kuinka monta lomapäivää minulla on?"),
        ("ro", "Câte zile de concediu am?"),
        ("cs", "Kolik mám dní dovolené?"),
        ("tr", "Kaç gün izin var?"),
        ("ja", "Kubernetesの設定はどこにありますか"),
        ("ko", "책을 몇 권 빌릴 수 있나요?"),
        ("zh", "可以借几本书?"),
        ("ar", "أين موقف السيارات؟"),
        ("fa", "چند روز مرخصی دارم؟"),
        ("ru", "Сколько дней отпуска?"),
        ("uk", "Скільки днів відпустки?"),
        ("el", "Πόσες μέρες άδειας έχω;"),
        (UNDETERMINED, "วันหยุดกี่วัน"),
    ],
)
def test_the_language_of_a_question_is_recognised(language: str, text: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize("text", ["", "2202G", "AXIS2 alarm?", "17,Ada,London", "Kaution", "van insurance", "..."])
def test_a_text_that_shows_no_language_has_none(text: str) -> None:
    assert detect_language(text) is None
