"""The formats in which people keep images with captions, a module per family; `data.source` is the door."""
