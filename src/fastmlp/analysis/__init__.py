"""What is computed from a network: derivatives, folding, summary."""
