"""The console: Textual screens over the state database. A thin view: what is done is done by jobs,
what is ordered goes through ``orders``; a console that dies harms neither.
"""
