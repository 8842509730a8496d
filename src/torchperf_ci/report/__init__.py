"""Report on a run: summary, tables, charts, Markdown, HTML, and the parts of PyTorch's dashboard."""
