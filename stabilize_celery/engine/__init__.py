"""Pure core: one handler per message; no I/O, clock, randomness or logging."""
