"""Looking at a function or a run: measurements at a point (`diagnose`), values that are wrong in a step (`debug`)."""
