"""The sandbox: parsers run in processes of their own, limited in time, memory and files."""
