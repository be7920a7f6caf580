"""The families of models: where image and text meet in them (docs/measures.md, section 2)."""

DUAL_ENCODER = "dual encoder"
CROSS_ATTENTION = "cross-attention fusion"
SINGLE_STREAM = "single stream"
THREE_GROUP = "three-group fusion"
NO_ATTENTION = "no attention"
FAMILIES = (DUAL_ENCODER, CROSS_ATTENTION, SINGLE_STREAM, THREE_GROUP, NO_ATTENTION)
