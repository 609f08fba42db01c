"""Model files, and file writing that survives a crash."""
