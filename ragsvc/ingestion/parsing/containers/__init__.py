"""Containers that several formats share: ZIP archives and their XML parts."""
