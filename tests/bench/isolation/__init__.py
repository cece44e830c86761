"""What it costs to have Postgres keep workspaces apart."""
