"""The page to look with: one HTML file, of a study or of a model on a user's own pairs."""
