"""The HTTP server: application, requests, principals, problems, waiting."""
