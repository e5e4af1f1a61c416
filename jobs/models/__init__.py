"""What models are: their cards, the layouts they come in, the heads, how one is tried."""
