"""Webhooks: their registration, allowed origins, signatures and delivery."""
