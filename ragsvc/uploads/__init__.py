"""Receiving files: in one request, in parts or over tus."""
