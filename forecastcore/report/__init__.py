"""One HTML page that shows a forecast: self-contained, no script, nothing fetched from anywhere.

`words` turns numbers into text, `markup` text into escaped HTML, `views` the table into what a chart shows and `charts`
that into SVG; `pictures` and `tables` make the sections, `page` puts them together.
"""

from __future__ import annotations

from forecastcore.report.page import write_page

__all__ = ["write_page"]
