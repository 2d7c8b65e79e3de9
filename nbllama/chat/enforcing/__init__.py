"""From a format and tools to a grammar that a model cannot leave."""
