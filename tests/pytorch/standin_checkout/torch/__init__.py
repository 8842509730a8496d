"""The source tree of torch, not built: whoever imports this has the wrong folder on its path."""

raise ImportError("this is the source tree of torch, which cannot be imported")
