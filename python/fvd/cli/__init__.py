"""The `fvd` command: one module for each subcommand, imported only when it runs."""
