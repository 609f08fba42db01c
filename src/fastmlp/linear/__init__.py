"""Linear models and the basis functions that extend them."""
