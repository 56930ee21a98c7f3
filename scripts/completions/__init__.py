"""Completions of the command for bash, zsh and fish, made from the parsers of the commands."""
