"""Settings of logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ragsvc.settings.groups.base import Group


class TelemetryGroup(Group):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of events that are logged."
    )
    otel_traces_exporter: Literal["none", "otlp", "console"] = Field(
        "none",
        description="Exporter of traces; requires `ragsvc[otel]`. The SDK reads its other `OTEL_*` variables.",
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json`: one JSON object per line. `console`: human-readable text."
    )
