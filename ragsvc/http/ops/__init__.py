"""For operators and their tools: health, metrics, and the API's description."""
