"""Scraped metrics, parsed by prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping


class Figures:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; 0 if there is none."""
        return sum(sample.value for sample in self.samples if sample.name == name and _has(sample.labels, labels))

    def labels(self, name: str, label: str) -> set[str]:
        """Return all values of a metric's label."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())
