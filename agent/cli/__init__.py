"""The command line. `main` is the entry point; each command's own module is imported when it is called."""
