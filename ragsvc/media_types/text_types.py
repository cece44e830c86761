"""The types of text that only a name or a header tells apart, and the grammars of those that have one."""

from __future__ import annotations

from pathlib import PurePath

from ragsvc.media_types.content_types import bare_type

HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN_TEXT = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
XML = "application/xml"
PHP = "application/x-php"

SUFFIXES = {
    MARKDOWN: ".md .markdown .mdown .mkd .mkdn",
    CSV: ".csv",
    TSV: ".tsv .tab",
    JSON: ".json .geojson .webmanifest .ipynb .jsonld",
    JSON_LINES: ".jsonl .ndjson",
    XML: ".xml .xsd .xsl .xslt .rss .atom .dbk .wsdl .plist",
    "text/x-python": ".py .pyi .pyw",
    "text/javascript": ".js .mjs .cjs .jsx",
    "text/x-typescript": ".ts .mts .cts",
    "text/x-tsx": ".tsx",
    "text/x-java": ".java",
    "text/x-go": ".go",
    "text/x-rust": ".rs",
    "text/x-c": ".c .h",
    "text/x-c++": ".cc .cpp .cxx .hpp .hh .hxx",
    "text/x-csharp": ".cs",
    "text/x-ruby": ".rb",
    PHP: ".php .phtml",
    "text/x-shellscript": ".sh .bash",
}
BY_SUFFIX = {suffix: media_type for media_type, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
# What is read as it stands, whatever it means.
PLAIN_SUFFIXES = frozenset({".txt", ".text", ".log", ".rst", ".tex", ".yaml", ".yml", ".toml", ".ini"})
# What headers call the same types.
ALIASES = {
    "text/x-markdown": MARKDOWN,
    "application/csv": CSV,
    "text/json": JSON,
    "application/x-ndjson": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "text/xml": XML,
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
    "application/typescript": "text/x-typescript",
    "text/x-java-source": "text/x-java",
    "text/x-csrc": "text/x-c",
    "text/x-chdr": "text/x-c",
    "text/x-c++src": "text/x-c++",
    "text/x-script.python": "text/x-python",
    "application/x-python-code": "text/x-python",
    "application/x-sh": "text/x-shellscript",
    "text/x-php": PHP,
}
# `module:function` that makes the grammar's pointer. They come in wheels; nothing is loaded over the network.
GRAMMARS = {
    "text/x-python": "tree_sitter_python:language",
    "text/javascript": "tree_sitter_javascript:language",
    "text/x-typescript": "tree_sitter_typescript:language_typescript",
    "text/x-tsx": "tree_sitter_typescript:language_tsx",
    "text/x-java": "tree_sitter_java:language",
    "text/x-go": "tree_sitter_go:language",
    "text/x-rust": "tree_sitter_rust:language",
    "text/x-c": "tree_sitter_c:language",
    "text/x-c++": "tree_sitter_cpp:language",
    "text/x-csharp": "tree_sitter_c_sharp:language",
    "text/x-ruby": "tree_sitter_ruby:language",
    PHP: "tree_sitter_php:language_php",
    "text/x-shellscript": "tree_sitter_bash:language",
}


def claimed_text_type(filename: str, mime_type: str) -> str:
    """Return the type of text that the name claims, else the header; `text/plain` when neither names a known one."""
    by_name = BY_SUFFIX.get(PurePath(filename).suffix.lower())
    if by_name is not None:
        return by_name
    claimed = _claimed_type(mime_type)
    return claimed if claimed in SUFFIXES else PLAIN_TEXT


def claims_text(filename: str, mime_type: str) -> bool:
    """Tell whether name or header say that the file is text, of whatever type."""
    suffix = PurePath(filename).suffix.lower()
    claimed = _claimed_type(mime_type)
    return suffix in BY_SUFFIX or suffix in PLAIN_SUFFIXES or claimed in SUFFIXES or claimed.startswith("text/")


def _claimed_type(mime_type: str) -> str:
    claimed = bare_type(mime_type)
    return ALIASES.get(claimed, claimed)
