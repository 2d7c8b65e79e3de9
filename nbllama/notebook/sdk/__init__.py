"""The official SDK, whose requests go to this kernel's worker. Imports nothing: anthropic takes 0.8 s."""
