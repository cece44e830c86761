"""The HTTP API on aiohttp: routes, authentication, request bodies, views and event streams."""
