"""What a patch does inside a network that is run at several widths, and where, and how visibly.

One file per analysis, each with one ``analyse``: ``gradients``, ``spatial``, ``visibility`` and
``shift``. Each takes a ``Scene`` and gives a ``Finding``: numbers, tables and a drawing.
"""

ANALYSES = ("gradients", "spatial", "visibility", "shift")
