"""Image–caption pairs in COCO's own layout: reading, checking, rendering and fetching them."""
