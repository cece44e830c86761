"""The whole test suite; folders mirror the package."""
