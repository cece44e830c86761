"""Commands that work on Postgres, Redis and the store directly."""
