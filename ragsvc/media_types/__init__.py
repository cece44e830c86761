"""Media types and charsets: their names, and what a file name or a Content-Type claims."""
