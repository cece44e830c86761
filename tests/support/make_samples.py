"""Makes the sample PDF and DOCX from their Markdown: `python -m tests.support.make_samples`."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import docx

SOURCES = Path(__file__).parent / "samples"
SAMPLES = Path(__file__).resolve().parents[2] / "ragsvc" / "devstack" / "samples"

PAGE_WIDTH, PAGE_HEIGHT, MARGIN = 595, 842, 72
# Character widths from U+0020 on, in thousandths of the font size (Adobe's metrics of Helvetica).
HELVETICA = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A heading (level 1 to 3), a list item, a table row, or a paragraph (level 0)."""

    text: str
    level: int = 0
    kind: str = "text"


@dataclass(slots=True)
class Page:
    """A page being written: its drawing operators, and the y coordinate of the last line."""

    operators: list[str] = field(default_factory=list)
    y: float = PAGE_HEIGHT - MARGIN

    def write(self, text: str, *, size: float, font: str) -> None:
        """Write text below the last line, wrapped to the width of the page."""
        for line in wrap(text, size=size):
            self.y -= size * 1.45
            self.draw_line(line, x=MARGIN, y=self.y, size=size, font=font)
        self.y -= size * 0.7

    def draw_line(self, line: str, *, x: float, y: float, size: float, font: str) -> None:
        """Draw a line of text at the given coordinates."""
        escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        self.operators.append(f"BT /{font} {size:g} Tf {x:.1f} {y:.1f} Td ({escaped}) Tj ET")


def read_blocks(source: str) -> list[Block]:
    """Return the blocks of a document in the subset of Markdown that the samples use."""
    blocks = []
    for line in filter(None, source.splitlines()):
        if line.startswith("#"):
            marks, _, title = line.partition(" ")
            blocks.append(Block(title, len(marks)))
        elif line.startswith("- "):
            blocks.append(Block(line[2:], kind="item"))
        elif line.startswith("|"):
            blocks.append(Block(line, kind="row"))
        else:
            blocks.append(Block(line))
    return blocks


def wrap(text: str, *, size: float) -> list[str]:
    """Return the lines of a text that is wrapped at this font size."""
    limit = (PAGE_WIDTH - 2 * MARGIN) * 1000 / size
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if sum(HELVETICA[ord(character) - 32] for character in longer) <= limit:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def make_pdf(title: str, blocks: list[Block]) -> bytes:
    """Return a PDF with one page per chapter and an outline."""
    pages: list[Page] = [Page()]
    outline: list[tuple[str, int]] = []
    for block in blocks:
        if block.level == 2:  # a chapter
            if outline:
                pages.append(Page())
            outline.append((block.text, len(pages) - 1))
        size, font = {0: (11.0, "F1"), 1: (22.0, "F2"), 2: (15.0, "F2")}[block.level]
        pages[-1].write(block.text, size=size, font=font)
    for number, page in enumerate(pages, start=1):
        page.draw_line(str(number), x=PAGE_WIDTH / 2, y=MARGIN / 2, size=9, font="F1")
    return _join(_objects(title, pages, outline))


def _objects(title: str, pages: list[Page], outline: list[tuple[str, int]]) -> list[bytes]:
    """Return the PDF's objects: catalog, page tree, fonts, information, outline, then pages and their contents."""
    first_item, first_page = 7, 7 + len(outline)
    kids = " ".join(f"{first_page + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R /PageMode /UseOutlines /Lang (en-GB) >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
        f"<< /Title ({title}) >>",
        f"<< /Type /Outlines /Count {len(outline)} /First {first_item} 0 R /Last {first_page - 1} 0 R >>",
    ]
    for index, (heading, page_index) in enumerate(outline):
        links = f"/Prev {first_item + index - 1} 0 R " if index else ""
        links += f"/Next {first_item + index + 1} 0 R " if index + 1 < len(outline) else ""
        destination = f"[{first_page + 2 * page_index} 0 R /XYZ {MARGIN} {PAGE_HEIGHT - MARGIN} 0]"
        objects.append(f"<< /Title ({heading}) /Parent 6 0 R {links}/Dest {destination} >>")
    encoded = [text.encode("cp1252") for text in objects]
    for index, page in enumerate(pages):
        content = zlib.compress("\n".join(page.operators).encode("cp1252"), 9)
        encoded.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}]"
            f" /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {first_page + 2 * index + 1} 0 R >>".encode()
        )
        head = f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode()
        encoded.append(head + content + b"\nendstream")
    return encoded


def _join(objects: list[bytes]) -> bytes:
    file = io.BytesIO()
    file.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = file.tell()
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    file.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    file.write(b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\n" % (len(objects) + 1))
    file.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return file.getvalue()


def make_docx(blocks: list[Block]) -> bytes:
    """Return a DOCX with real headings, lists and tables."""
    document = docx.Document()
    rows: list[list[str]] = []
    for block in [*blocks, Block("")]:
        if block.kind == "row":
            rows.append([cell.strip() for cell in block.text.strip("|").split("|")])
            continue
        if rows:
            table = document.add_table(len(rows), len(rows[0]), style="Table Grid")
            for row, cells in zip(table.rows, rows, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
            rows = []
        if block.level:
            document.add_heading(block.text, level=block.level)
        elif block.text:
            document.add_paragraph(block.text, style="List Bullet" if block.kind == "item" else None)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def main() -> None:
    """Write both files."""
    handbook = read_blocks((SOURCES / "handbook.md").read_text(encoding="utf-8"))
    (SAMPLES / "handbook.pdf").write_bytes(make_pdf(handbook[0].text, handbook))
    policy = read_blocks((SOURCES / "policy.md").read_text(encoding="utf-8"))
    (SAMPLES / "policy.docx").write_bytes(make_docx(policy))


if __name__ == "__main__":
    main()
