"""What concurrent clients saw, replayed through a small model."""
