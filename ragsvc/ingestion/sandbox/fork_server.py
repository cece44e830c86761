"""The fork server's preload: removes the worker's credentials and imports the parsers for all children."""

from __future__ import annotations

from ragsvc.ingestion.sandbox import tasks
from ragsvc.ingestion.sandbox.environment import scrub_environment

__all__ = ["tasks"]

scrub_environment()
