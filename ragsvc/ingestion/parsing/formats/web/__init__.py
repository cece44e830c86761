"""HTML, XHTML and EPUB."""
