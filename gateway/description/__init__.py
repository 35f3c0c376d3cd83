"""What the API says about itself: OpenAPI and AsyncAPI, made from the routes, the types and the registry of errors."""
