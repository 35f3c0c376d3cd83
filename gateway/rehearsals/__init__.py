"""Rehearsals: the failures a money runtime has to survive, played through the public doors of an installation."""
