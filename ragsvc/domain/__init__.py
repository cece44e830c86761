"""What the service speaks of: frozen dataclasses and enums, without any I/O."""
