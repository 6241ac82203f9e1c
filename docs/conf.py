"""How Sphinx makes a site of these pages: `scripts/docs`. They read as well where Markdown is shown."""

project = "Goldenfleet"
author = "Goldenfleet's authors"
extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Goldenfleet"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
