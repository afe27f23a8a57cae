"""The networks of the paper and how they are trained; runs from a checkout and needs torch."""
