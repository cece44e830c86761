"""Document formats, media types and charsets, and what a file name or a Content-Type header claims."""
