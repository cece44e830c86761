"""Clients generated from the OpenAPI document, and the scripts that use them."""
