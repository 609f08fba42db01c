"""`fit`: checked data, passes over it, callbacks, progress and warnings."""
