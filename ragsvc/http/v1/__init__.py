"""The native API: one module per resource, with its handlers, request bodies and views."""
