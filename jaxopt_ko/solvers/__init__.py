"""Methods that look at the problem itself: transformations too, one evaluation of the problem per update."""
