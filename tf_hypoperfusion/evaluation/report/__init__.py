"""The paper's tables and figures for any evaluated cohort. numpy, scipy and matplotlib only.

``patients`` reads ``patients.csv``; ``characteristics``, ``decisions``, ``segmentation``, ``cores``
and ``comparison`` make tables, ``certainty`` those of a calibration, each a ``table.Table``;
``figures`` draws; ``page`` writes CSV, Markdown, HTML and pictures. The command is
``tf_hypoperfusion.report``.
"""
