"""A run's files -> checklists of journals, flow of patients, datasheet, bill of materials.

One way: ``files`` reads, ``data_facts``, ``network_facts`` and ``result_facts`` collect facts with
the file and key of each, the answers put facts into sentences, ``page`` writes. A sentence is made
of facts only (:func:`fact.say`), so none stands there without its source.
"""
