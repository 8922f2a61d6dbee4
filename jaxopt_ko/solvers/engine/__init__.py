"""What methods are put together of: line searches, trust regions, linear systems, convergence."""
