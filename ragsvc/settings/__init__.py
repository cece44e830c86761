"""Settings: all environment variables of the service, validated once at startup."""
