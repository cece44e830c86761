"""Benches: what a claim of speed stands on, measured side by side with others in one run."""
