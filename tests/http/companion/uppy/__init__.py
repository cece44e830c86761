"""Tests of the API and the store with Uppy from npm."""
