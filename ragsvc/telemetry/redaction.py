"""Redacts secrets, and rows that Postgres quotes in its error messages."""

from __future__ import annotations

import re

# user:password@ in URLs, bearer tokens, API keys, and key=value pairs with the name of a secret.
SECRETS = re.compile(
    r"(?P<url>(?<=://)[^\s/@]+(?=@))|(?P<bearer>(?<=[Bb]earer )[\w.~+/=-]+)|(?P<key>\b(?:sk|rag|upt)[-_][\w-]{8,})"
    r"|(?P<pair>(?<=password=)[^\s&'\"]+|(?<=secret=)[^\s&'\"]+|(?<=Signature=)[^\s&'\"]+)"
)
# "Failing row contains (…)": the row can span many lines of a document. It is followed by a hint, a traceback or the
# end.
DETAIL = re.compile(r"(?<=\nDETAIL:  ).*?(?=\nHINT:  |\n\n(?:During|The above)|\Z)", re.DOTALL)


def redact(text: str) -> str:
    """Return the text with secrets and quoted rows replaced by `***`."""
    return DETAIL.sub("***", SECRETS.sub("***", text))
