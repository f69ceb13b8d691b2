"""The report: a pure function of what a run folder holds. It runs nothing and invents nothing.

``evidence`` reads the folder, ``rows`` turns counts into rates, ``warnings`` says what a reader
must know before quoting them, ``document`` and ``markdown`` write it down.
"""
