"""The routes of the API and what their answers show."""
