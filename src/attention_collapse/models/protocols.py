"""The protocols of token-level T-SHAP by name; docs/measures.md, section 5, says which is which."""

NATIVE, MM_SHAP = PROTOCOLS = ("native", "mm-shap")  # see `models.masking`
PUBLISHED_PERMUTATIONS = 10  # written into the modified shap of MM-SHAP's code in place of `max_evals`
