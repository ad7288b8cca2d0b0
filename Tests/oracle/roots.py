"""The tokens that stand for the two roots of a case until it is run.

Alone in its file because every worker needs it at start and nothing else of the tree.
"""

TREE = "@T@"  # the root of the tree, in paths, link targets and scripts
OUTSIDE = "@O@"  # a directory outside it, on another file system


def expand(text: str, tree: str, outside: str) -> str:
    """Puts the real roots in the place of their tokens."""
    return text.replace(TREE, tree).replace(OUTSIDE, outside)
