"""The table of document formats: media type names, file name suffixes, header aliases and content signatures.

To add a format: a row here, a module in `ragsvc/ingestion/parsing/formats/`, and an entry in `parsing/registry.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS = "application/vnd.ms-excel"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
RTF = "application/rtf"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN_TEXT = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
XML = "application/xml"
PHP = "application/x-php"
UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is recognised by its content, whether or not there is a parser for it.

    Suffixes are separated by spaces; they only give a type to uploads that declare none. `magic` is a regular
    expression for the first bytes of a file, `ole2_stream` names a stream of an OLE2 compound file, and `ooxml_types`
    are parts of the content types that an Office Open XML package lists. Other ZIP containers declare their type in an
    entry named `mimetype`. `is_prose` means that a document's first line can be its title.
    """

    media_type: str
    suffixes: str = ""
    magic: bytes | None = None
    ole2_stream: str | None = None
    ooxml_types: tuple[bytes, ...] = ()
    is_prose: bool = False


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A kind of text that only a file name or a Content-Type header distinguishes from other text.

    Suffixes and aliases, which are other names that headers use, are separated by spaces. `grammar` is the
    `module:function` that returns a pointer to a tree-sitter grammar; grammars come in wheels and are never downloaded.
    """

    media_type: str
    suffixes: str = ""
    aliases: str = ""
    grammar: str | None = None
    is_prose: bool = False


# In the order in which signatures are tried: the first match decides.
FORMATS = (
    Format("image/png", magic=rb"\x89PNG\r\n\x1a\n"),
    Format("image/jpeg", magic=rb"\xff\xd8\xff"),
    Format("image/gif", magic=rb"GIF8[79]a"),
    Format("image/webp", magic=rb"RIFF....WEBP"),
    Format("audio/wav", magic=rb"RIFF....WAVE"),
    Format("video/x-msvideo", magic=rb"RIFF....AVI "),
    Format("image/tiff", magic=rb"II\*\x00|MM\x00\*"),
    Format("image/heic", magic=rb"\x00\x00\x00.ftyp(?:heic|heix|mif1)"),
    Format("image/avif", magic=rb"\x00\x00\x00.ftypavif"),
    Format("video/mp4", magic=rb"\x00\x00\x00.ftyp"),
    Format("video/x-matroska", magic=rb"\x1aE\xdf\xa3"),
    Format("audio/mpeg", magic=rb"ID3[\x02-\x04]|\xff[\xfa\xfb\xf2\xf3]"),
    Format("application/ogg", magic=rb"OggS\x00"),
    Format("audio/flac", magic=rb"fLaC\x00"),
    Format("application/gzip", magic=rb"\x1f\x8b"),
    Format("application/x-bzip2", magic=rb"BZh[1-9]1AY&SY"),
    Format("application/x-xz", magic=rb"\xfd7zXZ\x00"),
    Format("application/zstd", magic=rb"\x28\xb5\x2f\xfd"),
    Format("application/x-7z-compressed", magic=rb"7z\xbc\xaf\x27\x1c"),
    Format("application/vnd.rar", magic=rb"Rar!\x1a\x07"),
    Format("application/x-tar", magic=rb".{257}ustar(?:\x00|  \x00)"),
    Format("application/x-elf", magic=rb"\x7fELF"),
    Format("application/vnd.sqlite3", magic=rb"SQLite format 3\x00"),
    Format(RTF, suffixes=".rtf", magic=rb"\{\\rtf", is_prose=True),
    Format("application/postscript", magic=rb"%!PS"),
    Format("application/msword", ole2_stream="WordDocument"),
    Format(XLS, suffixes=".xls", ole2_stream="Workbook"),
    Format("application/vnd.ms-powerpoint", ole2_stream="PowerPoint Document"),
    Format("application/vnd.ms-outlook", ole2_stream="__nameid_version1.0"),
    # Templates, slide shows and files with macros have the same structure; macros are ignored.
    Format(
        DOCX,
        suffixes=".docx",
        ooxml_types=(
            b"wordprocessingml.document.main+xml",
            b"wordprocessingml.template.main+xml",
            b"ms-word.document.macroEnabled",
        ),
        is_prose=True,
    ),
    Format(
        XLSX,
        suffixes=".xlsx",
        ooxml_types=(
            b"spreadsheetml.sheet.main+xml",
            b"spreadsheetml.template.main+xml",
            b"ms-excel.sheet.macroEnabled",
            b"ms-excel.sheet.binary.macroEnabled",
        ),
    ),
    Format(
        PPTX,
        suffixes=".pptx",
        ooxml_types=(
            b"presentationml.presentation.main+xml",
            b"presentationml.slideshow.main+xml",
            b"presentationml.template.main+xml",
            b"ms-powerpoint.presentation.macroEnabled",
            b"ms-powerpoint.slideshow.macroEnabled",
        ),
    ),
    Format(ODT, suffixes=".odt", is_prose=True),
    Format(ODS, suffixes=".ods"),
    Format(ODP, suffixes=".odp"),
    Format(EPUB, suffixes=".epub"),
    # Detected by code in sniffing.py: these files need not begin with a fixed signature.
    Format(PDF, suffixes=".pdf", is_prose=True),
    Format(HTML, suffixes=".html .htm", is_prose=True),
)
TEXT_FORMATS = (
    TextFormat(PLAIN_TEXT, is_prose=True),
    TextFormat(MARKDOWN, ".md .markdown .mdown .mkd .mkdn", "text/x-markdown", is_prose=True),
    TextFormat(CSV, ".csv", "application/csv"),
    TextFormat(TSV, ".tsv .tab"),
    TextFormat(JSON, ".json .geojson .webmanifest .ipynb .jsonld", "text/json"),
    TextFormat(JSON_LINES, ".jsonl .ndjson", "application/x-ndjson application/ndjson application/x-jsonlines"),
    TextFormat(XML, ".xml .xsd .xsl .xslt .rss .atom .dbk .wsdl .plist", "text/xml"),
    TextFormat(
        "text/x-python",
        ".py .pyi .pyw",
        "text/x-script.python application/x-python-code",
        grammar="tree_sitter_python:language",
    ),
    TextFormat(
        "text/javascript",
        ".js .mjs .cjs .jsx",
        "application/javascript application/x-javascript",
        grammar="tree_sitter_javascript:language",
    ),
    TextFormat(
        "text/x-typescript",
        ".ts .mts .cts",
        "application/typescript",
        grammar="tree_sitter_typescript:language_typescript",
    ),
    TextFormat("text/x-tsx", ".tsx", grammar="tree_sitter_typescript:language_tsx"),
    TextFormat("text/x-java", ".java", "text/x-java-source", grammar="tree_sitter_java:language"),
    TextFormat("text/x-go", ".go", grammar="tree_sitter_go:language"),
    TextFormat("text/x-rust", ".rs", grammar="tree_sitter_rust:language"),
    TextFormat("text/x-c", ".c .h", "text/x-csrc text/x-chdr", grammar="tree_sitter_c:language"),
    TextFormat("text/x-c++", ".cc .cpp .cxx .hpp .hh .hxx", "text/x-c++src", grammar="tree_sitter_cpp:language"),
    TextFormat("text/x-csharp", ".cs", grammar="tree_sitter_c_sharp:language"),
    TextFormat("text/x-ruby", ".rb", grammar="tree_sitter_ruby:language"),
    TextFormat(PHP, ".php .phtml", "text/x-php", grammar="tree_sitter_php:language_php"),
    TextFormat("text/x-shellscript", ".sh .bash", "application/x-sh", grammar="tree_sitter_bash:language"),
)
# Read as plain text unless the header names another kind of text.
PLAIN_SUFFIXES = frozenset({".txt", ".text", ".log", ".rst", ".tex", ".yaml", ".yml", ".toml", ".ini"})

# Lookups derived from the two tables.
BY_SUFFIX = {suffix: row.media_type for row in TEXT_FORMATS for suffix in row.suffixes.split()}
DOCUMENTS_BY_SUFFIX = {suffix: row.media_type for row in FORMATS for suffix in row.suffixes.split()}
TEXT_TYPES = frozenset(row.media_type for row in TEXT_FORMATS)
PROSE_TYPES = frozenset(row.media_type for row in (*FORMATS, *TEXT_FORMATS) if row.is_prose)
ALIASES = {alias: row.media_type for row in TEXT_FORMATS for alias in row.aliases.split()}
GRAMMARS = {row.media_type: row.grammar for row in TEXT_FORMATS if row.grammar}
MAGICS = tuple((re.compile(row.magic, re.DOTALL), row.media_type) for row in FORMATS if row.magic)
OLE2_STREAMS = tuple((row.ole2_stream, row.media_type) for row in FORMATS if row.ole2_stream)
OOXML_TYPES = tuple((part, row.media_type) for row in FORMATS for part in row.ooxml_types)
