"""The HTTP contract: operations, bodies, ids, pages, problems, and their OpenAPI description."""
