"""Man pages, made from the pages of `docs/cli`."""
