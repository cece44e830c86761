"""How fast an answer comes through the service: its first words, a thousand streams, and events a second."""
