"""Linear models and bases."""
