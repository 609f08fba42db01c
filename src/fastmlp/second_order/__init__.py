"""Full-batch methods: objective, line search, BFGS, L-BFGS, Levenberg-Marquardt."""
