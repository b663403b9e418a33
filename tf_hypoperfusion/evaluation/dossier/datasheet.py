"""Datasheet of the cohort and its records, its questions in our words.

Gebru et al., Communications of the ACM 2021;64(12):86-92.
"""

from tf_hypoperfusion.evaluation.dossier import data_answers as data
from tf_hypoperfusion.evaluation.dossier import network_answers as network
from tf_hypoperfusion.evaluation.dossier import result_answers as result
from tf_hypoperfusion.evaluation.dossier.checklist import Checklist, Item

DATASHEET = Checklist(
    name="Datasheet of cohort and records",
    source="Gebru et al., Datasheets for Datasets, Communications of the ACM 2021;64(12):86-92, "
    "https://doi.org/10.1145/3458723",
    file="datasheet",
    sections=(
        ("Motivation", (
            Item("M1", "Purpose", "For what were the data collected, and by whom?"),
            Item("M2", "Funding", "Who paid for it?"),
        )),
        ("Composition", (
            Item("C1", "What and how many", "What is in the data set, and how much?",
                 data.sources),
            Item("C2", "Who was left out", "Is it a sample, and of whom?", result.patient_flow),
            Item("C3", "What each patient has", "Which images, facts and labels are there?",
                 data.labels),
            Item("C4", "Who the patients are", "Which groups are in it, and how large are they?",
                 data.characteristics),
            Item("C5", "What is missing", "What is missing, and why?", data.missing_data),
            Item("C6", "Rows that belong together", "Which patients or visits belong together?",
                 data.relations),
            Item("C7", "Recommended division", "How should the data be divided?", data.partitions),
            Item("C8", "Errors and noise", "Which errors are known?", data.quality),
            Item("C9", "Confidential content", "Can persons be identified, by face or by date?"),
        )),
        ("Collection", (
            Item("L1", "How it was acquired", "With which scanners and sequences?",
                 data.acquisition),
            Item("L2", "From whom, and when", "In which hospitals, from when to when?", data.sites),
            Item("L3", "Consent and ethics", "Did patients consent, and did a committee approve?"),
        )),
        ("Preprocessing and labelling", (
            Item("P1", "Preprocessing", "How were the images prepared?", data.preprocessing),
            Item("P2", "Labels", "Who labelled them?", data.annotators),
            Item("P3", "Software", "Is the software available?", data.prepared_by),
            Item("P4", "Raw data", "Are the raw data kept, and where?"),
        )),
        ("Uses", (
            Item("U1", "Uses so far", "What were the data used for?", network.aims),
            Item("U2", "Other uses", "What else could they serve?"),
            Item("U3", "Uses to avoid", "What should they not be used for?", result.limitations),
        )),
        ("Distribution", (
            Item("D1", "Access and licence", "Where are they, and under which terms?",
                 data.sharing),
        )),
        ("Maintenance", (
            Item("N1", "Version", "What identifies this version?", data.version),
            Item("N2", "Who maintains it", "Who maintains it, and how are errors reported?"),
        )),
    ),
)  # fmt: skip
