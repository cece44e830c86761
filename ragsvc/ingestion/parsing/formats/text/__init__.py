"""Formats that are text: plain, Markdown, CSV, JSON, XML, RTF."""
