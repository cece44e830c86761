"""HTML: the visible text in lines, with headings and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.ingestion.parsing.formats.web.xhtml import close_empty_elements
from tests.ingestion.invariants import check_long_table
from tests.ingestion.support import assert_linear_time, refusal_of

if TYPE_CHECKING:
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

PAGE = """<!DOCTYPE html>
<html><head><title>The title</title><style>p { color: red }</style></head>
<body>
<nav><a href="/">Home</a></nav>
<div role="navigation">Breadcrumbs</div>
<h1>Handbook</h1>
<p>Some   <b>bold</b>
words.<br>Next line.</p>
<script>var hidden = 1;</script><div hidden>Hidden words</div>
<h2>Lists <small>and</small> tables</h2>
<ul><li>One</li><li><p>Two</p></li></ul>
<table><tr><th>Name</th><th>Age</th></tr><tr><td><p>Ada</p></td><td><p>36</p></td></tr>
<tr><td></td><td>7</td></tr></table>
<pre>
  kept   as
    it is
</pre>
<p>After.</p>
</body></html>"""

EMPTY_ELEMENTS = [
    "<title/>",
    '<script src="a.js"/>',
    "<style />",
    "<iframe/>",
    "<audio src='a>b'/>",
    "<textarea/>",
    "<a/>",
]


def parse_html(parse: Parse, markup: str, **options: str) -> str:
    return parse(markup.encode(), "page.html", **options).text


def test_the_visible_text_of_a_page_is_read(parse: Parse) -> None:
    assert parse_html(parse, PAGE) == (
        "Handbook\n\nSome bold words.\nNext line.\n\nLists and tables\n\n- One\n- Two\n\n"
        "Name\tAge\nAda\t36\n7\n\n  kept   as\n    it is\n\nAfter."
    )


def test_heading_offsets_are_exact(parse: Parse) -> None:
    parsed = parse(PAGE.encode())
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(1, "Handbook"), (2, "Lists and tables")]
    for heading in parsed.headings:
        assert parsed.text[heading.char_start :].startswith(heading.title)


def test_a_page_without_h1_begins_with_its_title(parse: Parse) -> None:
    parsed = parse(b"<html><head><title>My  notes</title></head><body><h2>Part</h2>text")
    assert parsed.text == "My notes\n\nPart\n\ntext"
    assert [(heading.level, heading.title, heading.char_start) for heading in parsed.headings] == [
        (1, "My notes", 0),
        (2, "Part", 10),
    ]


def test_accents_in_separate_text_nodes_are_composed(parse: Parse) -> None:
    parsed = parse("<html><p>caf<b>e</b>\u0301 now</p><h2>x</h2>".encode())
    assert parsed.text == "café now\n\nx"
    assert parsed.headings[0].char_start == 10


def test_a_page_that_is_only_navigation_is_read(parse: Parse) -> None:
    assert parse_html(parse, "<html><nav><ul><li>Chapter one</li></ul></nav>") == "- Chapter one"


def test_menus_and_open_dialogs_are_read_and_closed_dialogs_are_not(parse: Parse) -> None:
    page = (
        "<html><h1>Soups</h1>Today:<menu><li>Tomato</li><li>Leek</li></menu>or bread."
        "<dialog open><p>We close at noon.</p></dialog><dialog>Your cart is empty.</dialog><menu hidden>x</menu>End."
    )
    text = "Soups\n\nToday:\n\n- Tomato\n- Leek\n\nor bread.\n\nWe close at noon.\n\nEnd."
    assert parse_html(parse, page) == text


@pytest.mark.parametrize(
    ("markup", "charset"),
    [
        ('<html><head><meta charset="windows-1251"></head><p>Привет, мир</p>', "cp1251"),
        ('<html><meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS"><p>日本語</p>', "cp932"),
        ("<?xml version='1.0' encoding='iso-8859-2'?><html><p>Zażółć</p></html>", "iso8859-2"),
        ("<html><meta charset=utf-16><p>naïve</p>", "utf-8"),
    ],
)
def test_the_charset_that_the_markup_declares_is_used(parse: Parse, markup: str, charset: str) -> None:
    words = markup.rpartition("<p>")[2].partition("</p>")[0]
    assert parse(markup.encode(charset), "page.html").text == words


def test_the_charset_of_the_header_overrides_the_markup(parse: Parse) -> None:
    markup = "<html><meta charset=latin-1><p>Привет".encode("koi8-r")
    assert parse(markup, mime_type="text/html; charset=koi8-r").text == "Привет"


def test_a_long_table_is_split_between_rows_with_its_header_as_context(parse: Parse, counter: TokenCounter) -> None:
    rows = "".join(f"<tr><td><p>Kettle<p>model {number}</td><td>{number} euros</td></tr>" for number in range(1, 120))
    markup = (
        "<html><h1>Prices</h1><p>What everything costs.<table><caption>All prices</caption>"
        f"<thead><tr><th>Product<th>Price</thead><tbody>{rows}</table>Prices change in spring."
    )
    check_long_table(parse(markup.encode()), counter, first="Product\tPrice", last="Kettle\n\nmodel 119\t119 euros")


@pytest.mark.parametrize(
    "markup",
    [
        "<table><tr><th>Name<th>Age<tr><td>a<table><tr><td>b<td>c<tr><td>d<td>e</table><td>f</table>",
        "<table><tr><th>Name<th>Age<tr><td><h2>Ada</h2><td>36</table>",
        "<table><tr><td>1<td>2<tr><td>3<td>4</table>",
    ],
    ids=["nested", "headings", "nameless"],
)
def test_layout_tables_and_tables_without_a_header_are_text(parse: Parse, markup: str) -> None:
    assert parse(f"<html>{markup}".encode()).tables == ()


def test_nested_tables_are_read_in_document_order(parse: Parse) -> None:
    markup = "<html><table><tr><td>a<table><tr><td>b<td>c</table>d</td><td>e</td></tr><tr><td>f</table>g"
    assert parse_html(parse, markup) == "a\n\nb\tc\n\nd\te\nf\n\ng"


@pytest.mark.parametrize(
    "head",
    [
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n<html>',
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">',
    ],
    ids=["declared", "by its namespace"],
)
@pytest.mark.parametrize("empty", EMPTY_ELEMENTS)
def test_self_closing_elements_of_xhtml_do_not_hide_text(parse: Parse, head: str, empty: str) -> None:
    page = f"{head}<head>{empty}</head><body>{empty}<p>Kettles&nbsp;boil.<br/>Twice.</p></body></html>"
    assert parse_html(parse, page) == "Kettles\xa0boil.\nTwice."


def test_text_in_cdata_sections_is_read(parse: Parse) -> None:
    page = (
        '<?xml version="1.0"?><html><script>//<![CDATA[\na="<p/>";\n//]]></script><style><![CDATA[ p{} ]]></style>'
        "<!-- <title/> <![CDATA[ --><p><![CDATA[if a < b && c:]]></p><pre><![CDATA[<title/>]]></pre></html>"
    )
    assert parse_html(parse, page) == "if a < b && c:\n\n<title/>"


def test_xhtml_that_is_not_well_formed_is_read(parse: Parse) -> None:
    page = '<?xml version="1.0"?><html><title/><p>One <b>two</p><p title="1 < 2"/>three & four<script/><![CDATA[ five'
    assert parse_html(parse, page) == "One two\n\nthree & four"


def test_a_self_closing_slash_is_ignored_in_html(parse: Parse) -> None:
    assert parse_html(parse, "<!DOCTYPE html><html><p>seen<script/>never") == "seen"


@pytest.mark.parametrize(
    "piece", ["<![CDATA[", "<!--", "<script>", "<a '", '<a b="', "<p/>", "<style/>", "<![CDATA[x]]>"]
)
def test_xhtml_is_converted_in_linear_time(piece: str) -> None:
    assert_linear_time(lambda size: piece * size, close_empty_elements, size=200_000)


@pytest.mark.parametrize("tag", ["div", "b", "blockquote", "x-any"])
def test_a_page_that_is_nested_too_deep_is_refused_in_linear_time(parse: Parse, tag: str) -> None:
    def check(bomb: bytes) -> None:
        assert refusal_of(parse, bomb)[0] == "limit_exceeded"

    assert_linear_time(lambda size: f"<html>{f'<{tag}>' * size}x".encode(), check, size=200_000)


@pytest.mark.parametrize("shape", ['<path d="M0 0"/>', "<g></g>", '<use href="#a" />', "<circle/>"])
def test_drawings_with_many_shapes_are_not_too_deep(parse: Parse, shape: str) -> None:
    markup = f"<html>before<svg viewBox='0 0 1 1'>{shape * 12_000}</svg><p>after"
    assert parse_html(parse, markup) == "before\n\nafter"


@pytest.mark.parametrize(
    "bomb",
    [
        "<path/>",
        "<svg/><path/>",
        "<svg><p><path/>",
        "<svg><desc><path/>",
        "<svg></svg><path/>",
        '<svg><path d="/>">',
        "<svg><path d='/>\">",
    ],
)
def test_a_self_closing_slash_is_ignored_outside_drawings(parse: Parse, bomb: str) -> None:
    last = bomb[bomb.rindex("<") :]
    assert refusal_of(parse, f"<html>{bomb}{last * 12_000}x".encode())[0] == "limit_exceeded"


def test_an_element_with_too_many_attributes_is_refused_in_linear_time(parse: Parse) -> None:
    def make(size: int) -> bytes:
        return f"<html><div {' '.join(f'a{number}=1' for number in range(size))}>x</div>".encode()

    def check(bomb: bytes) -> None:
        assert refusal_of(parse, bomb)[0] == "limit_exceeded"

    assert_linear_time(make, check, size=100_000)


def test_an_embedded_picture_is_accepted(parse: Parse) -> None:
    assert (
        parse_html(parse, f"<html><img alt='a picture' src='data:image/png;base64,{'A/b+' * 200_000}'>words") == "words"
    )


def test_deep_nesting_within_the_limit_is_read(parse: Parse) -> None:
    assert parse_html(parse, "<html>" + "<div>" * 3000 + "deep" + "</div>" * 3000 + "<p>after") == "deep\n\nafter"


@pytest.mark.parametrize("piece", ["<li>x", "<p>x", "<td>x", "<option>x", "<a name=x>x", "x<br>"])
def test_long_pages_of_unclosed_elements_are_read_in_linear_time(parse: Parse, piece: str) -> None:
    def check(page: str) -> None:
        assert parse_html(parse, page).startswith("start")

    assert_linear_time(lambda size: "<html><select></select><p>start" + piece * size, check, size=100_000)
