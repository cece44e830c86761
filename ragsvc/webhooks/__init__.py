"""Webhooks: where they may point, how they are signed, and how they are delivered."""
