"""Writes small PDFs: pages of lines, an outline, form fields, 40-bit encryption."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from hashlib import md5

# Password padding (ISO 32000-1, 7.6.3.3).
PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
# Required by this old encryption; nothing here is a secret.
_md5 = partial(md5, usedforsecurity=False)
FILE_ID = b"0123456789abcdef"
PERMISSIONS = -4


@dataclass(frozen=True)
class Entry:
    """An outline entry; `page` counts from 0."""

    title: str
    page: int
    children: tuple[Entry, ...] = ()


@dataclass
class _Objects:
    """Numbered PDF objects; number n is at index n - 1."""

    bodies: list[bytes] = field(default_factory=list)

    def add(self, body: bytes = b"") -> int:
        self.bodies.append(body)
        return len(self.bodies)

    def set(self, number: int, body: bytes) -> None:
        self.bodies[number - 1] = body


def make_pdf(
    pages: list[list[str]],
    *,
    outline: tuple[Entry, ...] = (),
    user_password: str | None = None,
    labels: str = "",
    kerned: bool = False,
    fields: tuple[str, ...] = (),
    tail: bytes = b"",
) -> bytes:
    """Return a PDF with a page for each list of lines (Windows-1252); an empty list makes a page without text.

    `labels` is the content of a number tree, such as `0 << /S /r >>`. On `kerned` pages, every third character is
    followed by kerning. `fields` are the fields of a form on the last page, such as `/FT /Tx /T (name) /V (Ada)`.
    """
    key = None if user_password is None else _make_key(user_password)
    objects = _Objects()
    catalog, tree = objects.add(), objects.add()
    font = objects.add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    kids = [_add_page(objects, lines, tree=tree, font=font, key=key, kerned=kerned) for lines in pages]
    form = _add_form(objects, fields, page=kids[-1]) if fields else b""
    references = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects.set(tree, b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), references))
    labelled = b" /PageLabels << /Nums [%s] >>" % labels.encode() if labels else b""
    outlines = b" /Outlines %d 0 R" % _add_outline(objects, outline, kids) if outline else b""
    objects.set(catalog, b"<< /Type /Catalog /Pages %d 0 R%s%s%s >>" % (tree, outlines, labelled, form))
    return _write(objects, catalog, key=key, user_password=user_password) + tail


def append_update(pdf: bytes, *, content: bytes) -> bytes:
    """Return a one-page PDF with new content for its page appended as an incremental update."""
    body = b"4 0 obj\n<< /Length %d >>\nstream\n%s\nendstream\nendobj\n" % (len(content), content)
    table = b"xref\n4 1\n%010d 00000 n \n" % len(pdf)
    trailer = b"trailer << /Size 6 /Root 1 0 R /Prev %d >>\n" % pdf.rindex(b"xref\n0 ")
    return pdf + body + table + trailer + b"startxref\n%d\n%%%%EOF\n" % (len(pdf) + len(body))


def _add_page(objects: _Objects, lines: list[str], *, tree: int, font: int, key: bytes | None, kerned: bool) -> int:
    shown = b" ".join(_kern(line) if kerned else b"(%s) Tj T*" % _escape(line) for line in lines)
    # A page without lines has a grey box, like a scan.
    content = b"BT /F1 11 Tf 60 740 Td 13 TL %s ET" % shown if lines else b"0.5 g 50 50 200 200 re f"
    number = objects.add()
    if key is not None:
        content = _rc4(_md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[:10], content)
    objects.set(number, b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    return objects.add(
        b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792]"
        b" /Resources << /Font << /F1 %d 0 R >> >> /Contents %d 0 R >>" % (tree, font, number)
    )


def _add_form(objects: _Objects, fields: tuple[str, ...], *, page: int) -> bytes:
    widget = b"<< /Type /Annot /Subtype /Widget /Rect [50 50 200 70] %s >>"
    references = b" ".join(b"%d 0 R" % objects.add(widget % field.encode("cp1252")) for field in fields)
    objects.set(page, objects.bodies[page - 1].removesuffix(b" >>") + b" /Annots [%s] >>" % references)
    return b" /AcroForm << /Fields [%s] >>" % references


def _kern(line: str) -> bytes:
    pieces = (b"(%s)" % _escape(line[start : start + 3]) for start in range(0, len(line), 3))
    return b"[%s] TJ T*" % b"-15".join(pieces)


def _add_outline(objects: _Objects, entries: tuple[Entry, ...], kids: list[int]) -> int:
    root = objects.add()
    first, last = _add_entries(objects, entries, kids, parent=root)
    objects.set(root, b"<< /Type /Outlines /First %d 0 R /Last %d 0 R >>" % (first, last))
    return root


def _add_entries(objects: _Objects, entries: tuple[Entry, ...], kids: list[int], *, parent: int) -> tuple[int, int]:
    numbers = [objects.add() for _ in entries]
    for index, entry in enumerate(entries):
        links = b""
        if index:
            links += b" /Prev %d 0 R" % numbers[index - 1]
        if index + 1 < len(entries):
            links += b" /Next %d 0 R" % numbers[index + 1]
        if entry.children:
            links += b" /First %d 0 R /Last %d 0 R" % _add_entries(objects, entry.children, kids, parent=numbers[index])
        title = b"<FEFF%s>" % entry.title.encode("utf-16-be").hex().encode()
        objects.set(
            numbers[index],
            b"<< /Title %s /Parent %d 0 R /Dest [%d 0 R /Fit]%s >>" % (title, parent, kids[entry.page], links),
        )
    return numbers[0], numbers[-1]


def _write(objects: _Objects, catalog: int, *, key: bytes | None, user_password: str | None) -> bytes:
    extra = b""
    if key is not None and user_password is not None:
        # The encryption dictionary itself is never encrypted.
        number = objects.add(
            b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P %d >>"
            % (_make_owner(user_password).hex().encode(), _rc4(key, PADDING).hex().encode(), PERMISSIONS)
        )
        extra = b" /Encrypt %d 0 R /ID [<%s> <%s>]" % (number, FILE_ID.hex().encode(), FILE_ID.hex().encode())
    written = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects.bodies, start=1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(written)
    size = len(offsets) + 1
    written += b"xref\n0 %d\n0000000000 65535 f \n" % size
    written += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    written += b"trailer << /Size %d /Root %d 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (size, catalog, extra, start)
    return bytes(written)


def _escape(line: str) -> bytes:
    return line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _pad(password: str) -> bytes:
    return (password.encode("latin-1") + PADDING)[:32]


def _make_owner(user_password: str) -> bytes:
    return _rc4(_md5(_pad("owner")).digest()[:5], _pad(user_password))


def _make_key(user_password: str) -> bytes:
    permissions = PERMISSIONS.to_bytes(4, "little", signed=True)
    return _md5(_pad(user_password) + _make_owner(user_password) + permissions + FILE_ID).digest()[:5]


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
