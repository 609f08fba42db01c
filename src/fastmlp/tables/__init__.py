"""Tables as they are: CSV, Parquet and NumPy files, columns that become inputs."""
