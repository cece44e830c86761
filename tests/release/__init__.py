"""Tests of a release: the declared dependencies, the wheel and the sdist."""
