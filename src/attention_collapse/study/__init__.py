"""The files of one study: where they lie, and how what they hold is read."""
