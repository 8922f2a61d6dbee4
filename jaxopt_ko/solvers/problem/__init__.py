"""A problem as functions of one vector: objective, residuals, constraints, bounds, robust losses."""
