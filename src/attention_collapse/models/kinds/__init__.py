"""The kinds of model, one module per kind: see `models.registry` and `models.interface`."""
