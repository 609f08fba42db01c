"""The parts of a network: arrays, counters, averages, forward and predict."""
