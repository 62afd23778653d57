"""Training and evaluation of the head, alone or with its backbone."""
