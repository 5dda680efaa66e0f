"""One HTML page that shows a forecast: self-contained, no script, nothing fetched from anywhere.

    >>> from forecastcore.report import write_page

`words` turns numbers into text, `markup` text into escaped HTML, `views` the table into what a chart shows, `charts` that
into SVG, and `page` puts it all together.
"""

from __future__ import annotations

from forecastcore.report.page import write_page

__all__ = ["write_page"]
