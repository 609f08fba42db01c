"""What a network is: arrays, counters, averages, forward and predict."""
