"""What `trace.tokens()`, `.cache()`, `.calls()`, `.events()`, `.probabilities()`, `.timing()` and `.tree()` give: one
module each.

An inspector is a view of `nbllama/views/` that shows itself, with a DataFrame: it computes and renders nothing of its
own. All but the tree have a widget, and can be saved as a page.
"""
