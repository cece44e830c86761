"""The command line of the evaluation: `make eval`, or `python -m tests.eval --help` to compare settings."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.domain.search import SearchMode
from ragsvc.resources import open_resources
from tests.eval.packages import PackagesMissing, unpack_packages
from tests.eval.questions import Kind, Split, make_corpus
from tests.eval.report import Outcome, draw, write_markdown
from tests.eval.service import SEARCHES_AT_ONCE, ingest, open_service, open_workspace, rank_all, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from ragsvc.devstack.ready_file import Access
    from tests.eval.questions import Corpus, Question

# These settings change what is stored, so each combination ingests the documents into its own workspace.
STORED = ("CHUNK_MAX_TOKENS", "CHUNK_OVERLAP_TOKENS", "CHUNK_CONTEXT", "TEXT_SEARCH_CONFIG")


def evaluate(
    *,
    folder: Annotated[Path, typer.Option(help="Folder for packages, documents, embeddings and reports.")] = Path(
        ".ragsvc/eval"
    ),
    split: Annotated[Split, typer.Option(help="Defaults are chosen on dev and reported on test.")] = Split.TEST,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only questions of this kind; can be repeated.")] = None,
    mode: Annotated[list[SearchMode] | None, typer.Option(help="Only this mode; can be repeated.")] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE,VALUE: a search setting to try with each value.")
    ] = None,
) -> None:
    """Ingest documentation, run queries with known answers, and report how often they are found.

    Settings are read from the environment, as for the service.
    """
    folder = folder.resolve()
    try:
        corpus = make_corpus(unpack_packages(folder))
    except PackagesMissing as missing:
        sys.exit(f"error: {missing}")
    questions = tuple(one for one in corpus.questions if one.split is split and one.kind in (kind or tuple(Kind)))
    outcome = asyncio.run(_evaluate(folder, corpus, questions, modes=mode or list(SearchMode), vary=vary or []))
    report = write_markdown(outcome)
    (folder / "report.md").write_text(report)
    draw(outcome, folder / "report.png")
    print(f"\n{report}\nwritten to {folder / 'report.md'} and {folder / 'report.png'}")  # noqa: T201


async def _evaluate(
    folder: Path, corpus: Corpus, questions: tuple[Question, ...], *, modes: Sequence[SearchMode], vary: Sequence[str]
) -> Outcome:
    async with open_service(folder / "stack", os.environ) as access:
        async with open_workspace(access, _name_workspace(corpus)) as workspace:
            chunks = await ingest(workspace, corpus.pages)
        ranks: dict[str, Sequence[int | None]] = {}
        for changed in _combine(vary):
            ranks |= await _rank(access, workspace.id, questions, modes=modes, changed=changed)
    title = f"{len(questions)} questions over {chunks:,} chunks of {len(corpus.pages)} documents"
    return Outcome(title, questions, ranks)


async def _rank(
    access: Access,
    workspace_id: UUID,
    questions: Sequence[Question],
    *,
    modes: Sequence[SearchMode],
    changed: dict[str, str],
) -> dict[str, list[int | None]]:
    described = " ".join(f"{name}={value}" for name, value in changed.items())
    async with open_resources(settings_of(access, changed), pool_size=SEARCHES_AT_ONCE) as resources:
        return {
            f"{mode} {described}".strip(): await rank_all(resources, workspace_id, questions, mode=mode)
            for mode in modes
        }


def _name_workspace(corpus: Corpus) -> str:
    """Return a workspace name derived from the documents and the settings that change what is stored."""
    digest = hashlib.sha256("".join(page.html for page in corpus.pages).encode()).hexdigest()[:12]
    stored = [f"{name}={os.environ[name]}" for name in STORED if os.environ.get(name)]
    return " ".join(["evaluation", digest, *stored])


def _combine(vary: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield every combination of the values."""
    names = [one.partition("=")[0] for one in vary]
    for values in itertools.product(*(one.partition("=")[2].split(",") for one in vary)):
        yield dict(zip(names, values, strict=True))


if __name__ == "__main__":
    typer.run(evaluate)
