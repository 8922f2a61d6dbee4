"""What makes the pages of the site that are not written by hand, and what Sphinx needs to know of the house."""
