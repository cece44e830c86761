"""Reads the judged pairs and compares them with the service's verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from ragsvc.answering.citations.support import find_passage
from ragsvc.domain.chat.citations import Verdict

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "de", "fr", "es", "ja", "ar")


@dataclass(frozen=True, slots=True)
class Judged:
    """A source, a claim, and the verdict of careful readers; `kind` says how the claim was made from the source."""

    id: str
    lang: str
    source: str
    claim: str
    verdict: Verdict
    kind: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged pair and the service's verdict on it."""

    pair: Judged
    verdict: Verdict

    def __str__(self) -> str:
        """Show the pair with both verdicts."""
        return f"{self.pair.id} ({self.pair.kind}): {self.pair.verdict} -> {self.verdict}: {self.pair.claim}"


@cache
def judge_all(name: str, language: str) -> tuple[Outcome, ...]:
    """Return the verdicts on the pairs of a language in the folder `name`."""
    lines = (FOLDER / name / f"{language}.jsonl").read_bytes().splitlines()
    return tuple(
        _judge(Judged(**{**entry, "verdict": Verdict(entry["verdict"])})) for entry in map(orjson.loads, lines)
    )


def _judge(pair: Judged) -> Outcome:
    passage = find_passage(pair.claim, pair.source)
    return Outcome(pair, passage.support.verdict if passage else Verdict.UNKNOWN)


def wrong(outcomes: tuple[Outcome, ...], verdict: Verdict) -> list[Outcome]:
    """Return the pairs that got this verdict wrongly."""
    return [one for one in outcomes if one.verdict is verdict and one.pair.verdict is not verdict]


def recall(outcomes: tuple[Outcome, ...], verdict: Verdict) -> float:
    """Return the share of the pairs with this verdict that the service recognised."""
    relevant = [one for one in outcomes if one.pair.verdict is verdict]
    return sum(one.verdict is verdict for one in relevant) / len(relevant)
