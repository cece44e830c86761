"""The parts of the dev stack: each starts one server."""
