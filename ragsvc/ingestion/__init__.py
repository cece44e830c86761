"""From a stored file to a searchable document."""
