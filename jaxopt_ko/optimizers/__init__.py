"""One family, one file: state, rule and recipe together."""
