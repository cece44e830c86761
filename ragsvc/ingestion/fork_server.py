"""What the fork server loads: it forgets the worker's credentials, then has the parsers ready for every child."""

from __future__ import annotations

from ragsvc.ingestion import sandbox_tasks
from ragsvc.ingestion.parsing.environment import forget_environment

__all__ = ["sandbox_tasks"]

forget_environment()
