"""Analysis of a network: derivatives, folding, summary."""
