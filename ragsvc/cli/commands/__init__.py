"""Commands that call the API or start processes: one module each."""
