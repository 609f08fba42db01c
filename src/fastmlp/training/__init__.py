"""`fit`: checked data, passes over it, callbacks, what is shown and warned of."""
