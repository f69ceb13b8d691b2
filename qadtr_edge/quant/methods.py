"""The names of the calibration methods, where the command line can check them without torch."""

METHODS = ("minmax", "percentile", "mse")
