"""Tests of faults, after which no document may be lost or indexed twice."""
