"""Tables: reading CSV, Parquet and NumPy files, and turning their columns into inputs."""
