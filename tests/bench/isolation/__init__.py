"""The cost of isolating workspaces in Postgres."""
