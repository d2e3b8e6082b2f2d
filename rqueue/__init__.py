"""rqueue: the waiting line for scarce cluster capacity."""

__version__ = "0.1.0"
