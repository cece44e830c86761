"""The API's description (OpenAPI 3.1), made of the routes and of the models that validate and answer."""
