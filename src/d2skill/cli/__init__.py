"""The commands; `cli` finds them and says what goes wrong."""
