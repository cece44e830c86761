"""The sandbox: parsers run in child processes with limits on time, memory and files."""
