"""Rails: the port to them, and which one carries an intent."""
