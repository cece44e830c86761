"""Presentations: each slide is a page with its title as heading."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import pptx
import pytest
from pptx.util import Inches

from tests.ingestion.invariants import check_long_table
from tests.ingestion.parsing.formats.office_files import make_pptx, make_strict, read_entry, replace_entry, save
from tests.ingestion.parsing.formats.open_documents import make_odf_table, make_odp, make_open_document
from tests.ingestion.support import refusal_of

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

PRICES = [("Product", "Price"), *((f"Kettle model {number}", f"{number} euros") for number in range(1, 120))]
SLIDES = (("Opening", ["first point", "second point"]), ("", ["no title"]), ("Closing", ["the end"]))


@pytest.mark.parametrize("make", [make_pptx, make_odp])
def test_a_slide_is_a_page_with_its_title_as_heading(parse: Parse, make: object) -> None:
    assert callable(make)
    parsed = parse(make(*SLIDES))
    assert [parsed.text[page.char_start : page.char_end] for page in parsed.pages] == [
        "Opening\n\nfirst point\nsecond point",
        "no title",
        "Closing\n\nthe end",
    ]
    assert [page.page for page in parsed.pages] == [1, 2, 3]
    assert [heading.title for heading in parsed.headings] == ["Opening", "Slide 2", "Closing"]
    assert [heading.char_start for heading in parsed.headings] == [page.char_start for page in parsed.pages]


@pytest.mark.parametrize("make", [make_pptx, make_odp])
def test_speaker_notes_are_part_of_their_slide(parse: Parse, make: object) -> None:
    assert callable(make)
    parsed = parse(make(("Title", ["point"]), notes="Say this slowly."))
    assert parsed.text == "Title\n\npoint\n\nSay this slowly."
    assert len(parsed.pages) == 1


def test_tables_groups_and_line_breaks_are_read_and_repeated_placeholders_are_not(parse: Parse) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Numbers"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for cell, text in zip(table.iter_cells(), ("a", "b", "c d\ne", "f"), strict=True):
        cell.text = text
    group = slide.shapes.add_group_shape()
    box = group.shapes.add_textbox(Inches(1), Inches(3), Inches(2), Inches(1))
    box.text_frame.text = "in a group\vsecond line"
    assert parse(save(presentation)).text == "Numbers\n\na\tb\nc d e\tf\nin a group\nsecond line"


def test_a_long_table_is_split_between_rows_with_its_header_as_context(parse: Parse, counter: TokenCounter) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Prices"
    size = (Inches(1), Inches(1), Inches(4), Inches(1))
    table = slide.shapes.add_table(len(PRICES), 2, *size).table
    for cell, text in zip(table.iter_cells(), chain.from_iterable(PRICES), strict=True):
        cell.text = text
    slide.shapes.add_textbox(*size).text_frame.text = "Prices change in spring."
    check_long_table(parse(save(presentation)), counter, first="Product\tPrice", last="Kettle model 119\t119 euros")


def test_a_long_table_of_an_open_document_is_split_the_same_way(parse: Parse, counter: TokenCounter) -> None:
    page = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Prices</text:p></draw:text-box>'
        f"</draw:frame><draw:frame>{make_odf_table(PRICES)}</draw:frame><draw:frame><draw:text-box>"
        "<text:p>Prices change in spring.</text:p></draw:text-box></draw:frame></draw:page>"
    )
    parsed = parse(make_open_document("presentation", page))
    check_long_table(parsed, counter, first="Product\tPrice", last="Kettle model 119\t119 euros")


def test_slides_are_in_presentation_order_not_sorted_by_name(parse: Parse) -> None:
    package = make_pptx(("One", []), ("Two", []))
    with io.BytesIO(package) as buffer:
        presentation = pptx.Presentation(buffer)
    ids = presentation.slides._sldIdLst
    ids.append(ids[0])
    assert parse(save(presentation)).text == "Two\n\nOne"


def test_a_strict_presentation_is_read_like_any_other(parse: Parse) -> None:
    strict = make_strict(make_pptx(("One", ["first"]), ("Two", ["second"]), notes="Say this."))
    assert b"http://schemas.openxmlformats.org/presentationml" not in read_entry(strict, "ppt/presentation.xml")
    assert parse(strict).text == "One\n\nfirst\n\nTwo\n\nsecond\n\nSay this."


def test_more_slides_than_the_limit_are_refused(parse: Parse, limits: ParseLimits) -> None:
    for data in (make_pptx(*SLIDES), make_odp(*SLIDES)):
        assert refusal_of(parse, data, limits=replace(limits, max_pages=2))[0] == "limit_exceeded"


def test_a_damaged_slide_is_corrupt(parse: Parse) -> None:
    assert refusal_of(parse, replace_entry(make_pptx(*SLIDES), "ppt/slides/slide2.xml", b"<p:sld"))[0] == "corrupt"


def test_a_dangling_relationship_is_ignored(parse: Parse) -> None:
    package = make_pptx(("Title", ["point"]), notes="Say this.")
    name = "ppt/slides/_rels/slide1.xml.rels"
    relations = read_entry(package, name).replace(b"notesSlide1.xml", b"gone.xml")
    assert parse(replace_entry(package, name, relations)).text == "Title\n\npoint"
