"""Every measure of what a model's score depends on."""

from attention_collapse.measures import hard, matching, reliance, shapley, sobol, token_shapley
from attention_collapse.measures.record import records

CONTRIBUTION_MEASURES = records(shapley, matching, hard, reliance, sobol, token_shapley)
