"""Label Studio: a running server that is asked, and whose answers are taken."""
