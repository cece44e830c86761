"""Generates the OpenAPI 3.1 description of the API from its routes and models."""
