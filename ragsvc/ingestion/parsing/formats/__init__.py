"""One module or folder for each document format."""
