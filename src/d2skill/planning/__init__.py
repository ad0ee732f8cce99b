"""What a run takes before it is begun: shapes of models, memory by part, work, hours and money. Arithmetic only."""
