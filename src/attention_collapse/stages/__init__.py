"""One module a DVC stage, named alike: read parameters and files, call one function, write files."""
