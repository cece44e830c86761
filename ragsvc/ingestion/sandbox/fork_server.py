"""What the fork server loads: it forgets the worker's credentials, then has the parsers ready for every child."""

from __future__ import annotations

from ragsvc.ingestion.sandbox import tasks
from ragsvc.ingestion.sandbox.environment import scrub_environment

__all__ = ["tasks"]

scrub_environment()
