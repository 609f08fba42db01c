"""Model files, and files that a crash leaves whole."""
