"""Objects of other libraries in, their objects out."""
