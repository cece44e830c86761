"""Acceptance tests, which use the product the way its users do."""
