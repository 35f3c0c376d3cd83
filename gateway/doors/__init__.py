"""What comes in and is committed as a fact: intents, commands, callbacks; over HTTP and over NATS."""
