"""From layers to a program of C, and the program with its buffers."""
