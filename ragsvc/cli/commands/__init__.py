"""Commands that speak to the API or start processes: one module each."""
