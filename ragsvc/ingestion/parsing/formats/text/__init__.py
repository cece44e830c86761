"""Text formats: plain text, Markdown, CSV, JSON, XML and RTF."""
