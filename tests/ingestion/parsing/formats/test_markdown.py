"""Markdown: the source is unchanged, and headings are found except inside code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ragsvc.ingestion.parsing.formats.text.markdown import scan_headings

if TYPE_CHECKING:
    from tests.ingestion.conftest import Parse

SOURCE = """---
title: # not a heading
---
# One *starred* `code`

Text.

```sh
# not a heading
```

~~~
## neither
```
~~~

Two
===

    # indented code

## Three ##

<!--
# commented out
-->

> # quoted

- item
- - -

| a |
|---|

#hashtag
####### seven

Sub [link](http://x) title {#anchor}
---

two lines
of a paragraph
---

###
"""


def test_the_source_is_unchanged(parse: Parse) -> None:
    parsed = parse(SOURCE.replace("\n", "\r\n").encode(), "notes.md")
    assert parsed.text == SOURCE
    assert [(heading.level, heading.title) for heading in parsed.headings] == [
        (1, "One starred code"),
        (1, "Two"),
        (2, "Three"),
        (2, "Sub link title"),
    ]
    beginnings = [parsed.text[heading.char_start :].partition("\n")[0] for heading in parsed.headings]
    assert beginnings == ["# One *starred* `code`", "Two", "## Three ##", "Sub [link](http://x) title {#anchor}"]


@pytest.mark.parametrize("text", ["", "---\n", "# ", "```\n# a", "#", "\n---\n", "Title\n==="])
def test_unusual_sources_are_accepted(text: str) -> None:
    assert [heading.title for heading in scan_headings(text)] == (["Title"] if "Title" in text else [])


LINES = st.sampled_from(
    ["# One", "## Two ##", "Text", "", "```", "~~~", "    # code", "> # quote", "Under", "===", "- item"]
)


@given(st.lists(LINES, max_size=12))
def test_atx_headings_match_commonmark(lines: list[str]) -> None:
    source = "\n".join(lines)
    tokens = MarkdownIt("commonmark").parse(source)
    expected = [
        (token.map[0], token.tag)
        for token in tokens
        if token.type == "heading_open" and token.level == 0 and token.map and token.markup.startswith("#")
    ]
    found = [
        (source.count("\n", 0, heading.char_start), f"h{heading.level}")
        for heading in scan_headings(source)
        if source[heading.char_start] == "#"
    ]
    assert found == expected
