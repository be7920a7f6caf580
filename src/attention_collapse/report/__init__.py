"""What people read: figures, LaTeX, summaries, and the MLflow mirror. The only room that rounds."""
