"""What a gateway commits: intents, commands, callbacks, configuration."""
