"""The commands, a module each, and the flags they share."""
