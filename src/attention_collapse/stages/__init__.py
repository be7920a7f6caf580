"""One module per DVC stage, named alike: read parameters and files, call one function, write files."""
