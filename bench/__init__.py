"""How fast the service is on this machine, against a bare handler under the same load."""
