"""The HTTP surface: routes, thin handlers, and the one error shape."""
