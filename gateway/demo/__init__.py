"""The demo: the happy transfer and the five incidents, told through the public doors."""
