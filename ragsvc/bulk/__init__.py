"""Many documents deleted, or ingested again, by one call."""
