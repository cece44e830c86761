"""The settings: every environment variable that the service reads, validated once at start."""
