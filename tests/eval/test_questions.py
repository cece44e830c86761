"""The questions of the evaluation, derived from small pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.eval.packages import PackagesMissing, unpack_packages
from tests.eval.pages import parse, read_page
from tests.eval.questions import Kind, Question, Split, make_corpus

if TYPE_CHECKING:
    from pathlib import Path

LONG = "This is said here, and said again, so that it is long enough to be an answer to anything. " * 3
FAQ = f"""<html><head><script>menu()</script></head><body><div class="toc"><a href="#a">How does it start?</a></div>
<h1>1. The FAQ</h1><h2>1.1. How does it start?</h2><p>With a key. {LONG}</p><h3>1.1.1. Older ones</h3><p>By hand.</p>
<h2>1.2. How does it stop?</h2><p>By itself. {LONG}</p></body></html>"""
MANUAL = f"""<html><body><h1>Result codes</h1><h2>(5) SQLITE_BUSY</h2><p>Somebody else writes. {LONG}</p>
<h2>What the caller has to do</h2><p>Try again. {LONG}</p><h2>Notes</h2><p>None. {LONG}</p></body></html>"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Return a folder as it looks after unpacking."""
    for name, html in {"debian/FAQ/start.en.html": FAQ, "sqlite3/rescode.html": MANUAL}.items():
        path = tmp_path / "usr/share/doc" / name
        path.parent.mkdir(parents=True)
        path.write_text(html)
    return tmp_path


def test_questions_are_not_part_of_uploaded_texts(unpacked: Path) -> None:
    corpus = make_corpus(unpacked)
    texts = "".join(parse(page.html).text for page in corpus.pages)
    asked = [question.query for question in corpus.questions if question.kind is Kind.QUESTION]
    assert sorted(asked) == ["How does it start?", "How does it stop?"]
    assert not any(query in texts for query in asked)
    assert "menu()" not in texts


def test_a_passage_is_the_text_below_its_heading(unpacked: Path) -> None:
    corpus = make_corpus(unpacked)
    texts = {page.filename: parse(page.html).text for page in corpus.pages}
    passages = {one.query: texts[one.filename][one.char_start : one.char_end].strip() for one in corpus.questions}
    assert passages["How does it start?"] == f"With a key. {LONG.strip()}\n\n1.1.1. Older ones\n\nBy hand."
    assert passages["What the caller has to do"] == f"Try again. {LONG.strip()}"
    assert passages["SQLITE_BUSY"] == f"Somebody else writes. {LONG.strip()}"


def test_titles_without_content_are_not_used_as_questions(unpacked: Path) -> None:
    titles = [question.query for question in make_corpus(unpacked).questions if question.kind is Kind.TITLE]
    assert titles == ["What the caller has to do"]


def test_a_hidden_question_is_uploaded_as_a_number(unpacked: Path) -> None:
    page = read_page(unpacked / "usr/share/doc/debian/FAQ/start.en.html", filename="a.html", hides_questions=True)
    assert [section.title for section in page.sections] == [
        "The FAQ",
        "How does it start?",
        "Older ones",
        "How does it stop?",
    ]
    assert "Question 2" in page.html


@pytest.mark.parametrize(
    ("filename", "char_start", "char_end", "answers"),
    [
        ("a.html", 100, 200, True),
        ("a.html", 0, 1000, True),  # a chunk that contains all of it
        ("a.html", 140, 160, True),  # a chunk inside of it
        ("a.html", 150, 400, True),
        ("a.html", 151, 400, False),  # less than half of either
        ("a.html", 200, 300, False),
        ("b.html", 100, 200, False),
    ],
)
def test_a_chunk_answers_with_half_of_the_passage(
    filename: str, char_start: int, char_end: int, *, answers: bool
) -> None:
    question = Question(Kind.QUESTION, "?", "a.html", 100, 200)
    assert question.is_answered_by(filename, char_start, char_end) is answers


def test_a_question_is_always_in_the_same_split() -> None:
    splits = [Question(Kind.NAME, f"name {number}", "a", 0, 1).split for number in range(200)]
    assert 70 < splits.count(Split.DEV) < 130
    assert splits == [Question(Kind.TITLE, f"NAME {number}", "b", 5, 9).split for number in range(200)]


def test_without_apt_the_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagesMissing, match="apt-get and dpkg-deb"):
        unpack_packages(tmp_path / "cache")
