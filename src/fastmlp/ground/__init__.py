"""What all others stand on; imports nothing of fastmlp but the C core."""
