"""The kinds of model, one module per kind: see `registry` and `models.interface`."""
