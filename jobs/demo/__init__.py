"""The demo dump and the scenes it is made of."""
