"""Diagrams of networks, made from the networks themselves.

`blocks` finds the parts, `measure` who reads whom, `graph` makes nodes and edges of that, `words`
names them, `folding` and `layout` place them, `svg` draws. `example` fits what is not fitted.
"""

from sk_mtl.inspection._diagram.draw import Diagram, draw

__all__ = ["Diagram", "draw"]
