"""The paper's tables and figures for any evaluated cohort. numpy, scipy and matplotlib only.

``patients`` reads ``patients.csv``, ``tables`` and ``comparison`` make tables, ``figures`` draws,
``page`` writes CSV, Markdown, HTML and pictures; the command is ``tf_hypoperfusion.report``.
"""
