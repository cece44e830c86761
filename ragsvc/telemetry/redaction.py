"""Blanks what must not be told: secrets, and the rows that Postgres quotes in its errors."""

from __future__ import annotations

import re

# user:password@ in URLs, bearer tokens, keys, and key=value pairs whose key says that the value is secret.
SECRETS = re.compile(
    r"(?P<url>(?<=://)[^\s/@]+(?=@))|(?P<bearer>(?<=[Bb]earer )[\w.~+/=-]+)|(?P<key>\b(?:sk|rag|upt)[-_][\w-]{8,})"
    r"|(?P<pair>(?<=password=)[^\s&'\"]+|(?<=secret=)[^\s&'\"]+|(?<=Signature=)[^\s&'\"]+)"
)
# "Failing row contains (…)": the row may be a document's text, of many lines; what follows is a traceback or the end.
DETAIL = re.compile(r"(?<=\nDETAIL:  ).*?(?=\nHINT:  |\n\n(?:During|The above)|\Z)", re.DOTALL)


def redact(text: str) -> str:
    """Return the text with secrets, and what Postgres quotes of its rows, blanked."""
    return DETAIL.sub("***", SECRETS.sub("***", text))
