"""The types of documents that have a format of their own, and what a Content-Type says."""

from __future__ import annotations

from email.message import Message

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
UNKNOWN = "application/octet-stream"


def bare_type(content_type: str) -> str:
    """Return the type that a Content-Type names, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def charset_parameter(content_type: str) -> str | None:
    """Return the charset that a Content-Type names."""
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset()
