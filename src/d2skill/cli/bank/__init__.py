"""The commands `d2skill bank ...`: they show the skills of a bank and their history, and change it by hand."""
