"""From layers to a program of C, and the program over its buffers."""
