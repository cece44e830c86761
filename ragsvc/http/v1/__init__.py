"""The native API: one module for each resource, with its bodies and its JSON."""
