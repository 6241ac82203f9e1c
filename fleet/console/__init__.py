"""One page that shows a fleet as it is now, to the person who was paged. Reads; drains only where allowed to.

`picture` says what is shown, `feed` keeps it fresh in one thread for all viewers, `guard` refuses whoever is
not the person that started it, `app` and `serve` are the web server, `page/` is the page.
"""
