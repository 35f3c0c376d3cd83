"""What goes out: rails and webhooks over HTTP."""
