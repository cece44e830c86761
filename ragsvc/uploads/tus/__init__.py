"""The tus protocol's appends: offsets, tails and the one writer of an upload."""
