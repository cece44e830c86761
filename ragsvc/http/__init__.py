"""The face towards clients: routes, authentication, bodies, views and event streams over aiohttp."""
