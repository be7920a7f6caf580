"""Every measure of where a model looks."""

from attention_collapse.measures import entropy, mass, mcs
from attention_collapse.measures.record import records

ATTENTION_MEASURES = records(mcs, entropy, mass)
ROWS = ("all", "readout")  # which query rows they average over, as the ends of their columns' names
