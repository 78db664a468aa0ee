"""What a quote is, what a crossover is, what an alert says: pure, standard library only."""
