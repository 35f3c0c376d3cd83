"""What every rail adapter has to keep, as rules that anybody's tests can run."""
