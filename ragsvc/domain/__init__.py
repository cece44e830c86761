"""Domain types: frozen dataclasses and enums, without I/O."""
