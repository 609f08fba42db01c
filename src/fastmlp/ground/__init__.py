"""The lowest folder: it imports nothing of fastmlp but the C core, and all others may import it."""
