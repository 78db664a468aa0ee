"""Where quotes come from. A feed yields rounds of quotes; the producer does the rest."""
