"""What `trace.tokens()`, `.cache()`, `.calls()`, `.events()`, `.probabilities()` and `.timing()` give: one module each.

An inspector is a view of `nbllama/views/` with a DataFrame and a widget: it computes and renders nothing of its own.
"""
