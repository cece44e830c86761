"""PDF: pages, outline, forms and warnings."""
